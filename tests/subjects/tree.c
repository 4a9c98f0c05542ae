// A parent with children that answer over pipes, a grandchild, children that have ended and were not waited for, and one that is stopped.
#include "subject.h"
#include <poll.h>

struct child {
	pid_t pid;
	int to, from;
};

static int shared_position;

// Answers each number with its square, from memory that it shares with nobody, and asks its own child first.
static void serve(int in, int out, struct child *below)
{
	static int answered;
	int number;
	while (read(in, &number, sizeof number) == sizeof number) {
		int answer = number * number;
		if (below) {
			if (write(below->to, &number, sizeof number) != sizeof number)
				_exit(3);
			int deeper;
			if (read(below->from, &deeper, sizeof deeper) != sizeof deeper || deeper != answer + below->pid)
				_exit(4);
		}
		answered++;
		answer += getpid();
		if (write(out, &answer, sizeof answer) != sizeof answer)
			_exit(5);
	}
	_exit(answered);
}

static struct child start(int depth)
{
	int down[2], up[2];
	MUST(pipe(down));
	MUST(pipe(up));
	struct child child = { .pid = (pid_t)MUST(fork()) };
	if (child.pid == 0) {
		close(down[1]);
		close(up[0]);
		if (depth == 0)
			serve(down[0], up[1], NULL);
		struct child below = start(depth - 1);
		serve(down[0], up[1], &below);
	}
	close(down[0]);
	close(up[1]);
	child.to = down[1];
	child.from = up[0];
	return child;
}

static void ask(struct child *child, int number)
{
	int answer;
	CHECK(write(child->to, &number, sizeof number) == sizeof number);
	CHECK(read(child->from, &answer, sizeof answer) == sizeof answer);
	CHECK(answer == number * number + child->pid, "%d", answer);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	struct child flat = start(0), deep = start(2);
	ask(&flat, 3);
	ask(&deep, 4);

	pid_t exited = (pid_t)MUST(fork());
	if (exited == 0)
		_exit(42);
	pid_t killed = (pid_t)MUST(fork());
	if (killed == 0) {
		signal(SIGTERM, SIG_DFL);
		for (;;)
			pause();
	}
	MUST(kill(killed, SIGTERM));
	pid_t stopped = (pid_t)MUST(fork());
	if (stopped == 0) {
		while (!told("go"))
			tick();
		_exit(7);
	}
	siginfo_t info;
	MUST(waitid(P_PID, (id_t)exited, &info, WEXITED | WNOWAIT));
	MUST(waitid(P_PID, (id_t)killed, &info, WEXITED | WNOWAIT));
	MUST(kill(stopped, SIGSTOP));
	MUST(waitid(P_PID, (id_t)stopped, &info, WSTOPPED));

	shared_position = (int)MUST(open(in_dir("shared"), O_CREAT | O_RDWR | O_TRUNC, 0600));
	pid_t writer = (pid_t)MUST(fork());
	if (writer == 0) {
		while (!told("go"))
			tick();
		_exit(write(shared_position, "child", 5) == 5 ? 0 : 1);
	}
	CHECK(write(shared_position, "parent", 6) == 6);

	ready_and_wait();

	ask(&flat, 5);
	ask(&deep, 6);
	int status;
	CHECK(MUST(waitpid(exited, &status, 0)) == exited && WIFEXITED(status) && WEXITSTATUS(status) == 42, "%x", status);
	CHECK(MUST(waitpid(killed, &status, 0)) == killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "%x", status);
	CHECK(MUST(waitpid(stopped, &status, WNOHANG)) == 0);
	MUST(kill(stopped, SIGCONT));
	CHECK(MUST(waitpid(stopped, &status, 0)) == stopped && WIFEXITED(status) && WEXITSTATUS(status) == 7, "%x", status);
	CHECK(MUST(waitpid(writer, &status, 0)) == writer && status == 0, "%x", status);
	// One description, one position.
	CHECK(lseek(shared_position, 0, SEEK_CUR) == 11, "%ld", (long)lseek(shared_position, 0, SEEK_CUR));
	close(flat.to);
	close(deep.to);
	CHECK(MUST(waitpid(flat.pid, &status, 0)) == flat.pid && WEXITSTATUS(status) == 2, "%x", status);
	CHECK(MUST(waitpid(deep.pid, &status, 0)) == deep.pid && WEXITSTATUS(status) == 2, "%x", status);
	CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD);
	return well();
}
