// A program that never stands still: threads are born and die, memory is mapped and unmapped, files opened and closed, two
// threads pass numbers to each other through pipes, signals arrive; and nothing may be lost, doubled or interrupted.
#include "subject.h"
#include <pthread.h>
#include <sys/time.h>

static volatile int stop;
static volatile long signals, rounds[4];
static int there[2], back[2];

static void on_alarm(int signal)
{
	signals++;
	(void)signal;
}

static void *short_lived(void *arg)
{
	char *memory = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	memset(memory, (int)(long)arg, 64 * PAGE);
	for (unsigned i = 0; i < 64 * PAGE; i += PAGE)
		CHECK(memory[i] == (char)(long)arg);
	MUST(munmap(memory, 64 * PAGE));
	return arg;
}

static void *births(void *unused)
{
	while (!stop) {
		pthread_t threads[4];
		void *result;
		for (long i = 0; i < 4; i++)
			CHECK(pthread_create(&threads[i], NULL, short_lived, (void *)i) == 0);
		for (long i = 0; i < 4; i++)
			CHECK(pthread_join(threads[i], &result) == 0 && result == (void *)i);
		rounds[0]++;
	}
	return unused;
}

static void *asks(void *unused)
{
	for (long n = 0, answer; !stop; n++) {
		CHECK(write(there[1], &n, sizeof n) == sizeof n);
		CHECK(read(back[0], &answer, sizeof answer) == sizeof answer && answer == n * 3, "asked %ld, answered %ld", n, answer);
		rounds[1]++;
	}
	close(there[1]);
	return unused;
}

static void *answers(void *unused)
{
	long n, expected = 0, answer;
	ssize_t got;
	while ((got = read(there[0], &n, sizeof n)) > 0) {
		CHECK(got == sizeof n && n == expected, "got %ld, want %ld", n, expected);
		expected++;
		answer = n * 3;
		CHECK(write(back[1], &answer, sizeof answer) == sizeof answer);
	}
	CHECK(got == 0);
	return unused;
}

static void *files(void *unused)
{
	while (!stop) {
		// Without a name: what is in a file by name is not brought back.
		int fd = MUST(open(subject_dir, O_TMPFILE | O_RDWR, 0600));
		CHECK(write(fd, "contents", 8) == 8);
		char text[8];
		CHECK(pread(fd, text, 8, 0) == 8 && !memcmp(text, "contents", 8));
		MUST(close(fd));
		rounds[2]++;
	}
	return unused;
}

static void *sums(void *unused)
{
	static volatile double accumulator;
	while (!stop) {
		double sum = 0;
		for (int i = 1; i <= 100000; i++)
			sum += 1.0 / i;
		accumulator = sum;
		CHECK(accumulator > 12.090146129863 && accumulator < 12.090146129864, "%.15f", accumulator);
		rounds[3]++;
	}
	return unused;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	MUST(sigaction(SIGALRM, &action, NULL));
	MUST(pipe(there));
	MUST(pipe(back));
	static void *(*const work[])(void *) = { births, asks, answers, files, sums };
	pthread_t threads[5];
	for (int i = 0; i < 5; i++)
		CHECK(pthread_create(&threads[i], NULL, work[i], NULL) == 0);
	struct itimerval often = { .it_value = { 0, 3000 }, .it_interval = { 0, 3000 } };
	MUST(setitimer(ITIMER_REAL, &often, NULL));
	ready_and_wait();
	// Everything goes on: each of them comes further from here.
	long from[4], had = signals;
	memcpy(from, (void *)rounds, sizeof from);
	for (int i = 0; i < 4; i++)
		while (rounds[i] < from[i] + 3)
			tick();
	while (signals < had + 3)
		tick();
	stop = 1;
	for (int i = 0; i < 5; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	return well();
}
