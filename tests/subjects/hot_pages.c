// Memory of which all is rewritten when it is told to, and pages that a thread never ceases to write to. It says how often the kernel had to be asked for either: `hot_pages DIRECTORY`.
#include "subject.h"
#include <pthread.h>
#include <sys/resource.h>

#define PAGES 2048
#define BUSY 8

static uint64_t *memory;
static uint64_t *busy;
static volatile int stop;
static volatile uint64_t turns, busy_faults;

static uint64_t faults(void)
{
	struct rusage usage;
	MUST(getrusage(RUSAGE_THREAD, &usage));
	return (uint64_t)usage.ru_minflt;
}

static uint64_t *map(size_t pages)
{
	uint64_t *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(at != MAP_FAILED);
	MUST(madvise(at, pages * PAGE, MADV_NOHUGEPAGE));
	return at;
}

static void *never_ceases(void *unused)
{
	for (uint64_t turn = 1; !stop; turn++) {
		// Every second page: they are no run.
		for (size_t n = 0; n < BUSY; n++)
			busy[2 * n * (PAGE / sizeof *busy)] = turn + n;
		busy_faults = faults();
		turns = turn;
	}
	return unused;
}

static void rewrite(uint64_t round)
{
	for (size_t i = 0; i < PAGES * (PAGE / sizeof *memory); i++)
		memory[i] = i * 7 + round;
}

// In which round, and how many page faults that and the thread have taken, when the thread has come further.
static void say(uint64_t round, uint64_t taken)
{
	for (uint64_t from = turns; turns < from + 3;)
		tick();
	char name[32], text[64];
	snprintf(name, sizeof name, "rewritten-%lu", round);
	snprintf(text, sizeof text, "%lu %lu", taken, busy_faults);
	write_file(name, text);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	memory = map(PAGES);
	busy = map(2 * BUSY);
	rewrite(0);
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, never_ceases, NULL) == 0);
	write_file("ready", "");
	uint64_t round = 0;
	while (!told("go")) {
		char name[32];
		snprintf(name, sizeof name, "rewrite-%lu", round + 1);
		if (told(name)) {
			uint64_t before = faults();
			rewrite(++round);
			say(round, faults() - before);
		}
		tick();
	}
	stop = 1;
	CHECK(pthread_join(thread, NULL) == 0);
	for (size_t n = 1; n < BUSY; n++)
		CHECK(busy[2 * n * (PAGE / sizeof *busy)] == busy[0] + n, "busy page %zu", n);
	for (size_t i = 0; i < PAGES * (PAGE / sizeof *memory); i++)
		CHECK(memory[i] == i * 7 + round, "word %zu", i);
	char verdict[32];
	snprintf(verdict, sizeof verdict, "round %lu", round);
	write_file("verdict", verdict);
	return 0;
}
