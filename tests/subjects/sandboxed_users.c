// Children in user namespaces that their parent is not in, with PID, network and mount namespaces that belong to those: rootless containers and sandboxes.
#include "subject.h"
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>

static uint64_t effective(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	MUST(syscall(SYS_capget, &header, data));
	return data[0].effective | (uint64_t)data[1].effective << 32;
}

static void write_text(const char *path, const char *text)
{
	int fd = (int)MUST(open(path, O_WRONLY));
	MUST(write(fd, text, strlen(text)));
	close(fd);
}

static void read_text(const char *path, char *text, size_t size)
{
	int fd = (int)MUST(open(path, O_RDONLY));
	ssize_t length = MUST(read(fd, text, size - 1));
	text[length] = 0;
	close(fd);
}

static volatile pid_t thread_id;

static void *thread(void *go)
{
	thread_id = (pid_t)syscall(SYS_gettid);
	uint64_t had = effective();
	wait_for_go(*(int *)go);
	CHECK(effective() == had && syscall(SYS_gettid) == thread_id && getuid() == 0);
	return NULL;
}

// Whether the namespace that a file of /proc/self/ns names belongs to the caller's user namespace.
static int is_ours(const char *kind)
{
	char path[64], own[64] = "", owner[64] = "", link[64];
	snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
	int fd = (int)MUST(open(path, O_RDONLY)), user = ioctl(fd, NS_GET_USERNS);
	if (user < 0)
		return 0;
	snprintf(link, sizeof link, "/proc/self/fd/%d", user);
	MUST(readlink(link, owner, sizeof owner - 1));
	MUST(readlink("/proc/self/ns/user", own, sizeof own - 1));
	close(fd);
	close(user);
	return strcmp(own, owner) == 0;
}

// As `unshare --user --map-root-user --pid --fork --mount-proc` and its child.
static void container(int go)
{
	MUST(setgid(1300));
	MUST(setuid(1200));
	MUST(prctl(PR_SET_DUMPABLE, 1));
	MUST(unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS));
	write_text("/proc/self/setgroups", "deny");
	write_text("/proc/self/uid_map", "0 1200 1\n");
	write_text("/proc/self/gid_map", "0 1300 1\n");
	CHECK(getuid() == 0 && getgid() == 0);
	MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		MUST(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
		uint64_t had = effective();
		pthread_t second;
		CHECK(pthread_create(&second, NULL, thread, &go) == 0);
		while (!thread_id)
			tick();
		pid_t dropped = (pid_t)MUST(fork());
		if (dropped == 0) {
			// A process in a namespace within, and one without capabilities.
			pid_t nested = (pid_t)MUST(fork());
			if (nested == 0) {
				MUST(unshare(CLONE_NEWUSER | CLONE_NEWNET));
				write_text("/proc/self/uid_map", "7 0 1\n");
				CHECK(getuid() == 7);
				write_file("nested", "");
				wait_for_go(go);
				char map[128];
				read_text("/proc/self/uid_map", map, sizeof map);
				int inner, outer, count;
				CHECK(sscanf(map, "%d %d %d", &inner, &outer, &count) == 3 && inner == 7 && outer == 0 && count == 1, "%s", map);
				CHECK(getuid() == 7 && effective() != 0 && is_ours("net"));
				_exit(0);
			}
			struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
			struct __user_cap_data_struct none[2] = {0};
			MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
			MUST(prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0));
			MUST(syscall(SYS_capset, &header, none));
			write_file("dropped", "");
			wait_for_go(go);
			CHECK(effective() == 0 && prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN) == 0 && getuid() == 0);
			CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
			child_must_be_well(nested);
			_exit(0);
		}
		write_file("first", "");
		wait_for_go(go);
		CHECK(getpid() == 1 && getuid() == 0 && getgid() == 0 && effective() == had);
		char map[128], text[32] = "";
		read_text("/proc/self/uid_map", map, sizeof map);
		int inner, outer, count;
		CHECK(sscanf(map, "%d %d %d", &inner, &outer, &count) == 3 && inner == 0 && outer == 1200 && count == 1, "%s", map);
		read_text("/proc/self/setgroups", text, sizeof text);
		CHECK(strcmp(text, "deny\n") == 0, "%s", text);
		// What it may do in the namespaces that are its own, and not in others.
		CHECK(is_ours("mnt") && is_ours("uts") && !is_ours("net"));
		CHECK(sethostname("mine", 4) == 0);
		CHECK(mount("none", "/mnt", "tmpfs", 0, "size=64k") == 0);
		CHECK(chown("/", 0, 0) == -1 && errno == EPERM);
		CHECK(pthread_join(second, NULL) == 0);
		child_must_be_well(dropped);
		_exit(0);
	}
	uint64_t had = effective();
	write_file("maker", "");
	wait_for_go(go);
	CHECK(effective() == had && getuid() == 0);
	child_must_be_well(child);
	_exit(0);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	MUST(chmod(subject_dir, 0777));
	int go[2];
	MUST(pipe2(go, O_CLOEXEC));
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		close(go[1]);
		container(go[0]);
	}
	close(go[0]);
	while (!told("maker") || !told("first") || !told("dropped") || !told("nested"))
		tick();

	ready_and_wait();

	close(go[1]);
	child_must_be_well(child);
	return well();
}
