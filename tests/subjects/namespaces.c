// A process in namespaces of its own: names of the host, settings of IPC, a loopback interface with a listener, mounts with files in them.
#include "subject.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/utsname.h>

static void put(const char *path, const char *text)
{
	int fd = (int)MUST(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640));
	MUST(write(fd, text, strlen(text)));
	MUST(close(fd));
}

static const char *get(const char *path)
{
	static char text[256];
	int fd = (int)MUST(open(path, O_RDONLY));
	ssize_t length = MUST(read(fd, text, sizeof text - 1));
	MUST(close(fd));
	text[length] = 0;
	return text;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	MUST(unshare(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWCGROUP));
	MUST(sethostname("inside", 6));
	MUST(setdomainname("domain", 6));
	put("/proc/sys/kernel/msgmax", "7000");
	int udp = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0)), listener = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
	struct ifreq lo = { .ifr_name = "lo" };
	MUST(ioctl(udp, SIOCGIFFLAGS, &lo));
	lo.ifr_flags |= IFF_UP;
	MUST(ioctl(udp, SIOCSIFFLAGS, &lo));
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(7), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	MUST(bind(listener, (struct sockaddr *)&address, sizeof address));
	MUST(listen(listener, 5));

	MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	char own[4100], file[4200], name[4200], directory[4200], open_name[4200];
	snprintf(own, sizeof own, "%s", in_dir("own"));
	snprintf(file, sizeof file, "%s/a file", own);
	snprintf(name, sizeof name, "%s/directory/other name", own);
	snprintf(directory, sizeof directory, "%s/directory", own);
	snprintf(open_name, sizeof open_name, "%s/open", own);
	MUST(mkdir(own, 0700));
	MUST(mount("files", own, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=711"));
	put(file, "contents");
	MUST(mkdir(directory, 0750));
	MUST(link(file, name));
	MUST(chown(file, 12, 34));
	int open_file = (int)MUST(open(open_name, O_RDWR | O_CREAT, 0600));
	MUST(write(open_file, "0123456789", 10));
	MUST(mkdir(in_dir("bound"), 0700));
	MUST(mount("/usr", in_dir("bound"), NULL, MS_BIND, NULL));
	MUST(mount(NULL, in_dir("bound"), NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));

	ready_and_wait();

	struct utsname names;
	MUST(uname(&names));
	CHECK(!strcmp(names.nodename, "inside") && !strcmp(names.domainname, "domain"), "%s %s", names.nodename, names.domainname);
	CHECK(atoi(get("/proc/sys/kernel/msgmax")) == 7000, "%s", get("/proc/sys/kernel/msgmax"));
	int client = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
	MUST(connect(client, (struct sockaddr *)&address, sizeof address));
	MUST(accept(listener, NULL, NULL));
	CHECK(!strcmp(get(file), "contents"), "%s", get(file));
	struct stat first, second;
	MUST(stat(file, &first));
	MUST(stat(name, &second));
	CHECK(first.st_ino == second.st_ino && first.st_nlink == 2);
	CHECK(first.st_uid == 12 && first.st_gid == 34 && (first.st_mode & 07777) == 0640, "%o", first.st_mode);
	MUST(stat(own, &first));
	CHECK((first.st_mode & 07777) == 0711, "%o", first.st_mode);
	MUST(stat(directory, &first));
	CHECK((first.st_mode & 07777) == 0750, "%o", first.st_mode);
	MUST(write(open_file, "x", 1));
	CHECK(!strcmp(get(open_name), "0123456789x"), "%s", get(open_name));
	char through[4200];
	snprintf(through, sizeof through, "%s/bin", in_dir("bound"));
	CHECK(access(through, F_OK) == 0);
	CHECK(access(in_dir("bound"), W_OK) == -1 && errno == EROFS);
	return well();
}
