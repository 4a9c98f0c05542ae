// The program that is measured: beat FILE MIB DIRTY THREADS FDS
// Of MIB of memory, DIRTY permille a second are written, page after page; THREADS threads and FDS descriptors are there besides. FILE has what it
// tells: `struct told`. One thread beats all the time, and notes the longest time between two beats: the pause as the program sees it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, STEPS = 100 };

struct told {
	uint64_t beats;
	uint64_t longest_ns; // since `forget` was set
	uint64_t forget; // set by the reader, cleared here
	uint64_t ready;
	uint64_t memory; // where the memory is that is written
};

static volatile struct told *told;

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void *beat(void *unused)
{
	(void)unused;
	uint64_t last = now();
	for (;;) {
		struct timespec rest = { .tv_nsec = 100000 };
		nanosleep(&rest, NULL);
		uint64_t at = now();
		if (told->forget) {
			told->longest_ns = 0;
			told->forget = 0;
		} else if (at - last > told->longest_ns) {
			told->longest_ns = at - last;
		}
		last = at;
		told->beats++;
	}
	return NULL;
}

static void *rest(void *unused)
{
	(void)unused;
	for (;;)
		pause();
	return NULL;
}

static void must(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

static void start(void *(*run)(void *))
{
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 * 1024);
	pthread_t thread;
	must(pthread_create(&thread, &small, run, NULL) == 0, "pthread_create");
}

int main(int argc, char **argv)
{
	must(argc == 6, "usage");
	uint64_t pages = strtoull(argv[2], NULL, 10) * 256;
	uint64_t dirty = pages * strtoull(argv[3], NULL, 10) / 1000; // a second
	long threads = atol(argv[4]), fds = atol(argv[5]);
	int file = open(argv[1], O_RDWR | O_CREAT, 0600);
	must(file >= 0 && ftruncate(file, PAGE) == 0, argv[1]);
	told = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	must(told != MAP_FAILED, "mmap");
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (long i = 0; i < fds; i++)
		must((i % 2 ? eventfd((unsigned)i, 0) : open("/dev/null", O_RDWR)) >= 0, "descriptors");
	uint64_t *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(memory != MAP_FAILED, "memory");
	// Half of each page is noise, as data are: neither empty nor incompressible.
	uint64_t noise = 88172645463325252u;
	for (uint64_t page = 0; page < pages; page++) {
		uint64_t *words = memory + page * (PAGE / 8);
		for (int i = 0; i < PAGE / 16; i++) {
			noise ^= noise << 13;
			noise ^= noise >> 7;
			noise ^= noise << 17;
			words[i] = noise;
		}
		words[PAGE / 8 - 1] = page;
	}
	for (long i = 2; i < threads; i++)
		start(rest);
	start(beat);
	told->memory = (uint64_t)memory;
	told->ready = 1;
	uint64_t next = 0, begin = now(), written = 0;
	for (uint64_t step = 1;; step++) {
		for (uint64_t goal = dirty * step / STEPS; written < goal; written++) {
			// Strides of a prime number of pages: neighbours are not written together.
			memory[next * (PAGE / 8)]++;
			next = (next + 7919) % pages;
		}
		uint64_t due = begin + step * (1000000000 / STEPS), at = now();
		if (due > at) {
			struct timespec left = { .tv_sec = (time_t)((due - at) / 1000000000), .tv_nsec = (long)((due - at) % 1000000000) };
			nanosleep(&left, NULL);
		} else {
			// It was away: that time is not made up for.
			begin += at - due;
		}
	}
}
