// Opens an object that no checkpoint can hold yet, when it is told to: `unsupported DIRECTORY KIND`. Its number goes to `fd`.
#include "subject.h"
#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/rtnetlink.h>
#include <sys/fanotify.h>
#include <sys/socket.h>
#include <sys/un.h>

static int open_kind(const char *kind)
{
	if (!strcmp(kind, "io_uring")) {
		struct io_uring_params params = { 0 };
		return (int)MUST(syscall(SYS_io_uring_setup, 4, &params));
	}
	if (!strcmp(kind, "vsock"))
		return (int)MUST(socket(AF_VSOCK, SOCK_STREAM, 0));
	if (!strcmp(kind, "fanotify")) { // that others wait for
		int group = (int)MUST(fanotify_init(FAN_CLASS_CONTENT, O_RDONLY));
		close((int)MUST(open(in_dir("asked"), O_CREAT | O_RDWR, 0644)));
		MUST(fanotify_mark(group, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, in_dir("asked")));
		return group;
	}
	if (!strcmp(kind, "bpf")) { // a map of maps' kin
		union bpf_attr map = { .map_type = BPF_MAP_TYPE_LPM_TRIE, .key_size = 8, .value_size = 4, .max_entries = 4, .map_flags = BPF_F_NO_PREALLOC };
		return (int)MUST(syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
	}
	if (!strcmp(kind, "perf")) {
		struct perf_event_attr what = { .type = PERF_TYPE_SOFTWARE, .size = sizeof what, .config = PERF_COUNT_SW_TASK_CLOCK };
		return (int)MUST(syscall(SYS_perf_event_open, &what, 0, -1, -1, 0));
	}
	if (!strcmp(kind, "landlock")) {
		uint64_t handled = 1;
		return (int)MUST(syscall(SYS_landlock_create_ruleset, &handled, sizeof handled, 0));
	}
	if (!strcmp(kind, "netlink")) { // with an answer that has not been read
		struct {
			struct nlmsghdr head;
			struct ifinfomsg info;
		} request = { { sizeof request, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 }, { 0 } };
		int asked = (int)MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
		MUST(send(asked, &request, sizeof request, 0));
		return asked;
	}
	if (!strcmp(kind, "pidfd"))
		return (int)MUST(syscall(SYS_pidfd_open, 1, 0)) /* of a process outside of the job */;
	if (!strcmp(kind, "namespace")) { // that nobody is in any more
		int before = (int)MUST(open("/proc/self/ns/uts", O_RDONLY));
		MUST(unshare(CLONE_NEWUTS));
		int other = (int)MUST(open("/proc/self/ns/uts", O_RDONLY));
		MUST(setns(before, CLONE_NEWUTS));
		return other;
	}
	if (!strcmp(kind, "unaccepted")) { // with data for a listener that has not accepted it, which nobody can read
		struct sockaddr_un at = { .sun_family = AF_UNIX };
		snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "ckpt-unaccepted-%d", getpid());
		int listener = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0)), client = (int)MUST(socket(AF_UNIX, SOCK_STREAM, 0));
		MUST(bind(listener, (struct sockaddr *)&at, sizeof at));
		MUST(listen(listener, 1));
		MUST(fcntl(listener, F_DUPFD, 900));
		MUST(connect(client, (struct sockaddr *)&at, sizeof at));
		MUST(send(client, "unread", 6, 0));
		return client;
	}
	wrong("no such kind: %s", kind);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	write_file("ready", "");
	while (!told("open") && !told("go"))
		tick();
	int fd = -1;
	if (!told("go")) {
		// Under a number that no message has by chance.
		fd = (int)MUST(fcntl(open_kind(argv[2]), F_DUPFD, 873));
		for (int other = 3; other < fd; other++)
			close(other);
		write_file("fd", "");
		while (!told("go"))
			tick();
		CHECK(fcntl(fd, F_GETFD) != -1, "descriptor %d is gone", fd);
	}
	return well();
}
