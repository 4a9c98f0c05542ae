// A program in a mount namespace with a root directory of its own, as containers have it. The root is a bind mount of a directory, a tmpfs or an
// overlay; "child" as the third argument: of a child process only.
#include "subject.h"
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

static char root[2048];

static const char *in_root(const char *path)
{
	static char paths[4][4096];
	static int next;
	char *joined = paths[next++ % 4];
	snprintf(joined, sizeof paths[0], "%s%s", root, path);
	return joined;
}

// Makes a directory and those above it.
static void make_path(const char *path)
{
	char copy[4096];
	snprintf(copy, sizeof copy, "%s", path);
	for (char *at = copy + 1; *at; at++) {
		if (*at == '/') {
			*at = 0;
			mkdir(copy, 0755);
			*at = '/';
		}
	}
	mkdir(copy, 0755);
}

static void bind_there(const char *path, unsigned long flags)
{
	make_path(in_root(path));
	MUST(mount(path, in_root(path), NULL, MS_BIND, NULL));
	if (flags)
		MUST(mount(NULL, in_root(path), NULL, MS_REMOUNT | MS_BIND | flags, NULL));
}

static void put(const char *path, const char *text)
{
	int fd = (int)MUST(open(path, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0640));
	MUST(write(fd, text, strlen(text)));
	close(fd);
}

static void expect(const char *path, const char *text)
{
	char got[64] = "";
	int fd = (int)MUST(open(path, O_RDONLY | O_CLOEXEC));
	MUST(read(fd, got, sizeof got - 1));
	close(fd);
	CHECK(strcmp(got, text) == 0, "%s: %s, not %s", path, got, text);
}

static void build(const char *kind, const char *program)
{
	MUST(unshare(CLONE_NEWNS));
	MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	snprintf(root, sizeof root, "%s", in_dir("root"));
	const char *const dirs[] = { "root", "lower", "upper", "work" };
	for (int i = 0; i < 4; i++)
		MUST(mkdir(in_dir(dirs[i]), 0755));
	put(in_dir("lower/below"), "below");
	if (strcmp(kind, "bind") == 0) {
		MUST(mount(root, root, NULL, MS_BIND, NULL));
	} else if (strcmp(kind, "tmpfs") == 0) {
		// As bwrap has it: a part of a file system of which nobody sees the rest.
		MUST(mount("base", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755"));
		MUST(mkdir(in_dir("root/new"), 0755));
		MUST(mount(in_dir("root/new"), in_dir("root/new"), NULL, MS_BIND, NULL));
		snprintf(root, sizeof root, "%s", in_dir("root/new"));
	} else {
		char options[8192];
		snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", in_dir("lower"), in_dir("upper"),
			 in_dir("work"));
		if (mount("overlay", root, "overlay", 0, options) == -1) {
			not_exercised("overlay file systems");
			MUST(mount(root, root, NULL, MS_BIND, NULL));
		}
	}
	const char *const links[][2] = { { "usr/bin", "/bin" }, { "usr/lib", "/lib" }, { "usr/lib64", "/lib64" } };
	for (int i = 0; i < 3; i++)
		MUST(symlink(links[i][0], in_root(links[i][1])));
	bind_there("/usr", MS_RDONLY | MS_NOSUID);
	bind_there(subject_dir, 0);
	// A file that is mounted, not a directory.
	char directory[4096];
	snprintf(directory, sizeof directory, "%s", program);
	*strrchr(directory, '/') = 0;
	make_path(in_root(directory));
	put(in_root(program), "");
	MUST(mount(program, in_root(program), NULL, MS_BIND, NULL));
	MUST(mount(NULL, in_root(program), NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
	make_path(in_root("/proc"));
	MUST(mount("proc", in_root("/proc"), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	MUST(mount(in_root("/proc/sys"), in_root("/proc/sys"), NULL, MS_BIND, NULL));
	MUST(mount(NULL, in_root("/proc/sys"), NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
	make_path(in_root("/dev"));
	MUST(mount("dev", in_root("/dev"), "tmpfs", MS_NOSUID, "mode=755,size=64k"));
	put(in_root("/dev/null"), "");
	MUST(mount("/dev/null", in_root("/dev/null"), NULL, MS_BIND, NULL));
	make_path(in_root("/dev/pts"));
	MUST(mount("devpts", in_root("/dev/pts"), "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"));
	make_path(in_root("/data"));
	MUST(mount("data", in_root("/data"), "tmpfs", 0, "size=1m"));
	MUST(mkdir(in_root("/data/sub"), 0711));
	put(in_root("/data/sub/file"), "in memory");
	// What is covered is there still.
	put(in_root("/data/sub/under"), "under");
	put(in_root("/data/over"), "over");
	MUST(mount(in_root("/data/over"), in_root("/data/sub/under"), NULL, MS_BIND, NULL));
	make_path(in_root("/part"));
	MUST(mount(in_root("/data/sub"), in_root("/part"), NULL, MS_BIND, NULL));
	// A file that has been removed since.
	put(in_root("/data/secret"), "secret");
	put(in_root("/removed"), "");
	MUST(mount(in_root("/data/secret"), in_root("/removed"), NULL, MS_BIND, NULL));
	// The same once more, as systemd-nspawn has it: where something else is mounted over it, nothing leads there.
	make_path(in_root("/hides"));
	put(in_root("/hides/removed"), "");
	MUST(mount(in_root("/data/secret"), in_root("/hides/removed"), NULL, MS_BIND, NULL));
	MUST(mount("above", in_root("/hides"), "tmpfs", 0, "size=64k"));
	MUST(unlink(in_root("/data/secret")));
	// Two that tell each other of mounts, and one that is told only.
	const char *const groups[] = { "/one", "/two", "/three" };
	for (int i = 0; i < 3; i++)
		make_path(in_root(groups[i]));
	MUST(mount("one", in_root("/one"), "tmpfs", 0, "size=64k"));
	make_path(in_root("/one/a"));
	make_path(in_root("/one/b"));
	MUST(mount(NULL, in_root("/one"), NULL, MS_SHARED, NULL));
	for (int i = 1; i < 3; i++)
		MUST(mount(in_root("/one"), in_root(groups[i]), NULL, MS_BIND, NULL));
	MUST(mount(NULL, in_root("/three"), NULL, MS_SLAVE, NULL));
	MUST(chdir(root));
	MUST(syscall(SYS_pivot_root, ".", "."));
	MUST(umount2(".", MNT_DETACH));
	MUST(chdir("/"));
}

// Mounts that can be reached.
static int entries(void)
{
	char line[1024];
	int count = 0;
	FILE *mounts = fopen("/proc/self/mounts", "re");
	CHECK(mounts != NULL);
	while (fgets(line, sizeof line, mounts))
		count += strstr(line, " /hides/removed ") == NULL;
	fclose(mounts);
	return count;
}

static int inside(const char *kind, int alone)
{
	put("/made", "made");
	int made = (int)MUST(open("/made", O_RDWR | O_CLOEXEC));
	MUST(lseek(made, 2, SEEK_SET));
	int file = (int)MUST(open("/data/sub/file", O_RDWR | O_CLOEXEC));
	int map = (int)MUST(open("/data/map", O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	MUST(ftruncate(map, PAGE));
	char *mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	CHECK(mapped != MAP_FAILED);
	strcpy(mapped, "mapped");
	int gone = (int)MUST(open("/data/gone", O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	MUST(write(gone, "gone", 4));
	MUST(unlink("/data/gone"));
	int null = (int)MUST(open("/dev/null", O_RDWR | O_CLOEXEC));
	int server = (int)MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "/data/socket" };
	if (alone) {
		MUST(bind(server, (struct sockaddr *)&name, sizeof name));
		MUST(listen(server, 1));
	}
	MUST(chdir("/data/sub"));
	int before = entries();

	ready_and_wait();

	CHECK(entries() == before);
	char got[4096] = "";
	CHECK(getcwd(got, sizeof got) != NULL && strcmp(got, "/data/sub") == 0, "%s", got);
	CHECK(lseek(made, 0, SEEK_CUR) == 2);
	CHECK(pread(made, got, 4, 0) == 4 && memcmp(got, "made", 4) == 0);
	expect("/made", "made");
	CHECK(access("/etc", F_OK) == -1 && errno == ENOENT);
	CHECK(access("/usr/bin", F_OK) == 0 && access("/bin/sh", F_OK) == 0);
	CHECK(open("/usr/new", O_CREAT | O_WRONLY, 0600) == -1 && errno == EROFS);
	CHECK(pread(file, got, 9, 0) == 9 && memcmp(got, "in memory", 9) == 0);
	expect("/part/file", "in memory");
	put("/part/file", "once more");
	expect("file", "once more");
	expect("/data/sub/under", "over");
	expect("/part/under", "under");
	expect("/removed", "secret");
	CHECK(access("/data/secret", F_OK) == -1 && errno == ENOENT);
	CHECK(pread(gone, got, 4, 0) == 4 && memcmp(got, "gone", 4) == 0);
	CHECK(strcmp(mapped, "mapped") == 0);
	strcpy(mapped, "mapped again");
	CHECK(pread(map, got, 12, 0) == 12 && memcmp(got, "mapped again", 12) == 0);
	CHECK(write(null, "x", 1) == 1 && read(null, got, 1) == 0);
	CHECK(access("/proc/self/status", F_OK) == 0);
	CHECK(open("/proc/sys/kernel/hostname", O_WRONLY) == -1 && errno == EROFS);
	if (strcmp(kind, "overlay") == 0 && access("/below", F_OK) == 0) {
		expect("/below", "below");
		expect(in_dir("upper/made"), "made");
	}
	int client = (int)MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	if (alone)
		MUST(connect(client, (struct sockaddr *)&name, sizeof name));
	MUST(mount("news", "/one/a", "tmpfs", 0, "size=64k"));
	put("/one/a/news", "news");
	expect("/two/a/news", "news");
	expect("/three/a/news", "news");
	MUST(mount("more", "/two/b", "tmpfs", 0, "size=64k"));
	put("/two/b/news", "more");
	expect("/one/b/news", "more");
	MUST(umount("/two/b"));
	MUST(mount("own", "/three/b", "tmpfs", 0, "size=64k"));
	put("/three/b/own", "own");
	CHECK(access("/one/b/own", F_OK) == -1);
	MUST(umount("/three/b"));
	MUST(umount("/one/a"));
	CHECK(entries() == before);
	return well();
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	const char *kind = argv[2];
	if (argc > 3 && strcmp(argv[3], "inside") == 0)
		return inside(kind, strcmp(argv[4], "alone") == 0);
	int alone = argc == 3;
	if (!alone) {
		pid_t child = (pid_t)MUST(fork());
		if (child != 0) {
			int status;
			CHECK(waitpid(child, &status, 0) == child);
			return status != 0;
		}
	}
	char program[2048] = "", number[16];
	MUST(readlink("/proc/self/exe", program, sizeof program - 1));
	snprintf(number, sizeof number, "%d", getpid());
	write_file("child", number);
	build(kind, program);
	MUST(execl(program, program, subject_dir, kind, "inside", alone ? "alone" : "child", (char *)NULL));
}
