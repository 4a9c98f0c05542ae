// A tree that forks, exits and signals all the time: workers make children, which make children, which end by themselves or are killed; every status must
// be the expected one, and every signal sent must arrive.
#include "subject.h"

enum { WORKERS = 3 };

static volatile struct {
	unsigned long turns[WORKERS];
	int stop;
} *shared;

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
	(void)number;
	signals++;
}

// A child that waits until it is killed, with one of its own that exits at once.
static void be_killed(void)
{
	pid_t below = (pid_t)MUST(fork());
	if (below == 0)
		_exit(11);
	int status;
	CHECK(MUST(waitpid(below, &status, 0)) == below && WEXITSTATUS(status) == 11, "%x", status);
	MUST(kill(getppid(), SIGUSR1));
	for (;;)
		pause();
}

static void turn(unsigned long number)
{
	int status, code = (int)(number % 100);
	pid_t quick = (pid_t)MUST(fork());
	if (quick == 0)
		_exit(code);
	sigset_t blocked, before;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	MUST(sigprocmask(SIG_BLOCK, &blocked, &before));
	int seen = signals;
	pid_t killed = (pid_t)MUST(fork());
	if (killed == 0) {
		MUST(sigprocmask(SIG_SETMASK, &before, NULL));
		be_killed();
	}
	while (signals == seen)
		sigsuspend(&before);
	MUST(sigprocmask(SIG_SETMASK, &before, NULL));
	MUST(kill(killed, SIGKILL));
	CHECK(MUST(waitpid(killed, &status, 0)) == killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%x", status);
	CHECK(MUST(waitpid(quick, &status, 0)) == quick && WIFEXITED(status) && WEXITSTATUS(status) == code, "%x", status);
	CHECK(signals == seen + 1, "%d signals", (int)signals - seen);
	CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD);
}

static void work(int worker)
{
	struct sigaction action = { .sa_handler = on_signal };
	MUST(sigaction(SIGUSR1, &action, NULL));
	while (!shared->stop)
		turn(++shared->turns[worker]);
	_exit(0);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t workers[WORKERS];
	for (int i = 0; i < WORKERS; i++) {
		workers[i] = (pid_t)MUST(fork());
		if (workers[i] == 0)
			work(i);
	}
	// A mapped file: opened and renamed at no moment.
	int file = (int)MUST(open(in_dir("turns"), O_CREAT | O_RDWR, 0600));
	MUST(ftruncate(file, PAGE));
	unsigned long *public = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	CHECK(public != MAP_FAILED);
	write_file("ready", "");
	while (!told("go")) {
		tick();
		for (int i = 0; i < WORKERS; i++)
			public[i] = shared->turns[i];
	}
	shared->stop = 1;
	for (int i = 0; i < WORKERS; i++) {
		int status;
		CHECK(MUST(waitpid(workers[i], &status, 0)) == workers[i] && status == 0, "worker %d: %x", i, status);
	}
	return well();
}
