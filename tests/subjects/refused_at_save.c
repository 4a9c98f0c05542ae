// What could not be brought back and must not be found out only then: `refused_at_save DIRECTORY KIND`. And what looks like it: `zombie`.
#include "subject.h"
#include <pthread.h>
#include <sys/mount.h>
#include <sys/prctl.h>

static int go[2];

static pid_t clone_with(unsigned long flags)
{
	pid_t child = (pid_t)MUST(syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0));
	if (child == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return child;
}

// A child that does nothing until its parent closes the pipe, or ends.
static void rest(const char *name)
{
	close(go[1]);
	write_file(name, "");
	wait_for_go(go[0]);
	_exit(0);
}

static void *leave(void *flags)
{
	MUST(unshare((int)(uintptr_t)flags));
	// In a table of its own, it is open once more.
	if ((uintptr_t)flags == CLONE_FILES)
		close(go[1]);
	write_file("left", "");
	wait_for_go(go[0]);
	return NULL;
}

static void thread_leaves(int flags)
{
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, leave, (void *)(uintptr_t)flags) == 0);
	while (!told("left"))
		tick();
}

static void own_mounts(void)
{
	MUST(unshare(CLONE_NEWNS));
	MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

static pid_t in_user_namespace(void)
{
	pid_t child = clone_with(CLONE_NEWUSER);
	return child;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	const char *kind = argv[2];
	MUST(pipe2(go, O_CLOEXEC));
	pid_t children[2] = {0, 0};
	if (!strcmp(kind, "device")) {
		own_mounts();
		MUST(dup2((int)MUST(open("/dev/full", O_RDWR)), 873));
		MUST(mount("none", "/dev", "tmpfs", 0, NULL));
	} else if (!strcmp(kind, "read-only")) {
		own_mounts();
		const char *at = in_dir("map");
		MUST(mkdir(at, 0755));
		int fd = (int)MUST(open(in_dir("map/file"), O_CREAT | O_RDWR, 0644));
		MUST(ftruncate(fd, PAGE));
		CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
		close(fd);
		MUST(mount(at, at, NULL, MS_BIND, NULL));
		MUST(mount(NULL, at, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
	} else if (!strcmp(kind, "directories")) {
		if ((children[0] = in_user_namespace()) == 0) {
			if (clone_with(CLONE_FS) == 0)
				rest("second");
			rest("first");
		}
	} else if (!strcmp(kind, "table")) {
		if ((children[0] = in_user_namespace()) == 0) {
			thread_leaves(CLONE_FILES);
			write_file("second", "");
			rest("first");
		}
	} else if (!strcmp(kind, "leader")) {
		if ((children[0] = clone_with(0)) == 0) {
			while (!told("leader"))
				tick();
			MUST(setpgid(0, getpid() + 1));
			if (clone_with(CLONE_NEWPID) == 0)
				rest("second");
			rest("first");
		}
		if ((children[1] = clone_with(0)) == 0) {
			CHECK(getpid() == children[0] + 1);
			MUST(setpgid(0, 0));
			rest("leader");
		}
	} else if (!strcmp(kind, "network")) {
		thread_leaves(CLONE_NEWNET);
	} else if (!strcmp(kind, "children")) {
		thread_leaves(CLONE_NEWPID);
	} else if (!strcmp(kind, "zombie")) {
		if ((children[0] = clone_with(CLONE_NEWPID)) == 0) {
			prctl(PR_SET_DUMPABLE, 0);
			*(volatile int *)8 = 1;
		}
		siginfo_t ended;
		MUST(waitid(P_PID, (id_t)children[0], &ended, WEXITED | WNOWAIT));
		CHECK(ended.si_code == CLD_KILLED && ended.si_status == SIGSEGV, "%d %d", ended.si_code, ended.si_status);
	}
	if (!strcmp(kind, "directories") || !strcmp(kind, "table") || !strcmp(kind, "leader"))
		while (!told("first") || !told("second"))
			tick();

	ready_and_wait();

	close(go[1]);
	int status;
	for (int at = 0; at < 2 && children[at]; at++)
		CHECK(waitpid(children[at], &status, 0) == children[at] && (status & 0x7f) == (strcmp(kind, "zombie") ? 0 : SIGSEGV), "%#x", status);
	return well();
}
