// Seccomp: filters that threads share, filters that would kill the process for what a checkpoint does in it, filters of a process that has dropped its privileges,
// and strict mode.
#include "subject.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/utsname.h>

static long install(unsigned flags, const unsigned *calls, unsigned count, unsigned answer)
{
	struct sock_filter program[64] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
	unsigned len = 1;
	for (unsigned i = 0; i < count; i++)
		program[len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], (unsigned char)(count - i), 0);
	program[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer);
	struct sock_fprog filter = { .len = (unsigned short)len, .filter = program };
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);
}

static long answer_with(unsigned flags, unsigned call, int error)
{
	return install(flags, &call, 1, SECCOMP_RET_ERRNO | (unsigned)error);
}

static int fails_with(long call, int error)
{
	errno = 0;
	return syscall(call, 0, 0, 0) == -1 && errno == error;
}

static int thread_go;

static void *thread(void *unused)
{
	(void)unused;
	while (!__atomic_load_n(&thread_go, __ATOMIC_ACQUIRE))
		tick();
	// The first filters are in force here, too, and the one that the other thread has added for all.
	return (void *)(long)(fails_with(SYS_getppid, EXFULL) && fails_with(SYS_uname, EDOTDOT));
}

// Reads and writes, and in the end does what it may not.
static void strict(int in, int out)
{
	char byte;
	MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
	while (syscall(SYS_read, in, &byte, 1) == 1 && byte != 'x')
		syscall(SYS_write, out, &byte, 1);
	syscall(SYS_getpid);
	syscall(SYS_exit, 0);
}

// Is under a filter that it could add by privilege alone.
static void dropped(int in, int out)
{
	char byte;
	MUST(answer_with(0, SYS_getuid, EXFULL));
	MUST(syscall(SYS_setresuid, 1234, 1234, 1234));
	while (read(in, &byte, 1) == 1) {
		int well = fails_with(SYS_getuid, EXFULL) && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 &&
			   answer_with(0, SYS_getgid, EXFULL) == -1 && errno == EACCES;
		if (write(out, well ? "y" : "n", 1) != 1)
			break;
	}
	_exit(0);
}

struct child {
	pid_t pid;
	int to, from;
};

static struct child start(void (*run)(int, int))
{
	int to[2], from[2];
	MUST(pipe(to));
	MUST(pipe(from));
	struct child child = { .pid = (pid_t)MUST(fork()), .to = to[1], .from = from[0] };
	if (child.pid == 0) {
		close(to[1]);
		run(to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	return child;
}

static char ask(struct child child, char byte)
{
	char answer = 0;
	MUST(write(child.to, &byte, 1));
	MUST(read(child.from, &answer, 1));
	return answer;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	struct child reader = start(strict), unprivileged = start(dropped);
	CHECK(ask(reader, 'a') == 'a' && ask(unprivileged, 'a') == 'y');

	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	MUST(answer_with(SECCOMP_FILTER_FLAG_LOG, SYS_getppid, EXFULL));
	static const unsigned deadly[] = { SYS_userfaultfd, SYS_sigaltstack, SYS_getitimer, SYS_munlockall, SYS_get_robust_list };
	pthread_t other;
	CHECK(pthread_create(&other, NULL, thread, NULL) == 0);
	MUST(install(SECCOMP_FILTER_FLAG_TSYNC, deadly, sizeof deadly / sizeof *deadly, SECCOMP_RET_KILL_PROCESS));

	ready_and_wait();

	CHECK(fails_with(SYS_getppid, EXFULL));
	CHECK(answer_with(SECCOMP_FILTER_FLAG_TSYNC, SYS_uname, EDOTDOT) == 0, "the threads' filters are not the same ones");
	__atomic_store_n(&thread_go, 1, __ATOMIC_RELEASE);
	void *well_there;
	CHECK(pthread_join(other, &well_there) == 0 && well_there);

	CHECK(ask(unprivileged, 'b') == 'y');
	close(unprivileged.to);
	int status;
	CHECK(MUST(waitpid(unprivileged.pid, &status, 0)) == unprivileged.pid && status == 0, "%x", status);
	CHECK(ask(reader, 'b') == 'b');
	MUST(write(reader.to, "x", 1));
	CHECK(MUST(waitpid(reader.pid, &status, 0)) == reader.pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%x", status);

	// What is forbidden is still deadly.
	pid_t sinner = (pid_t)MUST(fork());
	if (sinner == 0) {
		syscall(SYS_munlockall);
		_exit(0);
	}
	CHECK(MUST(waitpid(sinner, &status, 0)) == sinner && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%x", status);
	return well();
}
