// What this machine itself takes for the steps that checkpoints are made of: floors DIR
// Prints a line `NAME VALUE` for each. DIR is where a file of 1 GiB can be for a moment.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, REGIONS = 4096, PIECES = 1024 };
static const uint64_t GIB = 1ull << 30, PAGES = (1ull << 30) / PAGE, STRIDE = 7919;

// linux/fs.h and linux/userfaultfd.h of Linux 6.7: Debian's are older.
struct region {
	uint64_t start, end, categories;
};
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, category_mask, any_of_mask, return_mask;
};
static const unsigned long PAGEMAP_SCAN = _IOWR('f', 16, struct scan);
static const uint64_t IS_WRITTEN = 1 << 1, WP_MATCHING = 1 << 0, WP_UNPOPULATED = 1 << 13, WP_ASYNC = 1 << 15;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void must(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

static char *memory(void)
{
	char *map = mmap(NULL, GIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(map != MAP_FAILED, "mmap");
	return map;
}

// One look through `map` for pages that were written, which are protected again. How many stretches there were.
static uint64_t look(int pagemap, char *map, uint64_t flags)
{
	static struct region found[REGIONS];
	uint64_t at = (uint64_t)map, end = at + GIB, regions = 0;
	while (at < end) {
		struct scan arg = { .size = sizeof arg, .flags = flags, .start = at, .end = end, .vec = (uint64_t)found, .vec_len = REGIONS,
			.category_mask = IS_WRITTEN, .return_mask = IS_WRITTEN };
		int got = ioctl(pagemap, PAGEMAP_SCAN, &arg);
		must(got >= 0, "PAGEMAP_SCAN");
		regions += (uint64_t)got;
		// What it says of the end of the walk may be of an earlier step.
		at = got < REGIONS ? end : arg.walk_end > found[got - 1].end ? arg.walk_end : found[got - 1].end;
	}
	return regions;
}

static void faults_and_scans(void)
{
	char *map = memory();
	double begin = now();
	for (uint64_t page = 0; page < PAGES; page++)
		map[page * PAGE] = 1;
	printf("page_fault_us %.3f\n", (now() - begin) / (double)PAGES);
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	must(fd >= 0, "userfaultfd");
	struct uffdio_api api = { .api = UFFD_API,
		.features = WP_ASYNC | WP_UNPOPULATED | UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	must(ioctl(fd, UFFDIO_API, &api) == 0, "UFFDIO_API");
	struct uffdio_register range = { .range = { (uint64_t)map, GIB }, .mode = UFFDIO_REGISTER_MODE_WP };
	must(ioctl(fd, UFFDIO_REGISTER, &range) == 0, "UFFDIO_REGISTER");
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	must(pagemap >= 0, "pagemap");
	begin = now();
	look(pagemap, map, WP_MATCHING);
	printf("protect_ms_per_gib %.3f\n", (now() - begin) / 1e3);
	begin = now();
	look(pagemap, map, 0);
	printf("scan_ms_per_gib %.3f\n", (now() - begin) / 1e3);
	uint64_t written = PAGES / 100;
	begin = now();
	for (uint64_t i = 0; i < written; i++)
		map[i * STRIDE % PAGES * PAGE] = 2;
	printf("protected_write_us %.3f\n", (now() - begin) / (double)written);
	begin = now();
	must(look(pagemap, map, WP_MATCHING) > 0, "pages that were written");
	printf("scan_of_one_percent_ms_per_gib %.3f\n", (now() - begin) / 1e3);

	struct iovec *pieces = calloc(PIECES, sizeof *pieces);
	char *copy = malloc(written * PAGE);
	must(pieces && copy, "memory");
	memset(copy, 1, written * PAGE);
	begin = now();
	for (uint64_t i = 0; i < written;) {
		uint64_t n = 0;
		for (; n < PIECES && i + n < written; n++)
			pieces[n] = (struct iovec) { map + (i + n) * STRIDE % PAGES * PAGE, PAGE };
		struct iovec into = { copy + i * PAGE, n * PAGE };
		must(process_vm_readv(getpid(), &into, 1, pieces, n, 0) == (ssize_t)(n * PAGE), "process_vm_readv");
		i += n;
	}
	printf("copied_page_us %.3f\n", (now() - begin) / (double)written);
	free(pieces);
	free(copy);
	close(pagemap);
	close(fd);
	begin = now();
	pid_t child = fork();
	must(child >= 0, "fork");
	if (child == 0)
		_exit(0);
	printf("fork_ms_per_gib %.3f\n", (now() - begin) / 1e3);
	waitpid(child, NULL, 0);
	munmap(map, GIB);
}

// A thread that sleeps is asked to stop, waited for, and let go on.
static void stops(void)
{
	enum { ROUNDS = 2000 };
	pid_t child = fork();
	must(child >= 0, "fork");
	if (child == 0)
		for (;;)
			pause();
	must(ptrace(PTRACE_SEIZE, child, 0, 0) == 0, "PTRACE_SEIZE");
	double begin = now();
	for (int i = 0; i < ROUNDS; i++) {
		int status;
		must(ptrace(PTRACE_INTERRUPT, child, 0, 0) == 0, "PTRACE_INTERRUPT");
		must(waitpid(child, &status, __WALL) == child && WIFSTOPPED(status), "waitpid");
		must(ptrace(PTRACE_CONT, child, 0, 0) == 0, "PTRACE_CONT");
	}
	printf("ptrace_stop_us %.3f\n", (now() - begin) / ROUNDS);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void must_stop(pid_t tracee)
{
	int status;
	must(waitpid(tracee, &status, __WALL) == tracee && WIFSTOPPED(status), "waitpid");
}

// Many that sleep are stopped, all at once; let run, eight at a time, and stopped again, as is who has to answer; and let go.
static void stops_of_many(void)
{
	enum { MANY = 256, LANES = 8, ROUNDS = 20 };
	static pid_t sleeping[MANY];
	for (int i = 0; i < MANY; i++) {
		sleeping[i] = fork();
		must(sleeping[i] >= 0, "fork");
		if (sleeping[i] == 0)
			for (;;)
				pause();
	}
	double total = 0;
	for (int round = 0; round < ROUNDS; round++) {
		double begin = now();
		for (int i = 0; i < MANY; i++)
			must(ptrace(PTRACE_SEIZE, sleeping[i], 0, 0) == 0 && ptrace(PTRACE_INTERRUPT, sleeping[i], 0, 0) == 0, "PTRACE_SEIZE");
		for (int i = 0; i < MANY; i++)
			must_stop(sleeping[i]);
		for (int first = 0; first < MANY; first += LANES) {
			for (int i = first; i < first + LANES; i++)
				must(ptrace(PTRACE_CONT, sleeping[i], 0, 0) == 0 && ptrace(PTRACE_INTERRUPT, sleeping[i], 0, 0) == 0, "PTRACE_CONT");
			for (int i = first; i < first + LANES; i++)
				must_stop(sleeping[i]);
		}
		for (int i = 0; i < MANY; i++)
			must(ptrace(PTRACE_DETACH, sleeping[i], 0, 0) == 0, "PTRACE_DETACH");
		total += now() - begin;
		// Asleep again.
		struct timespec while_ = { .tv_nsec = 20000000 };
		nanosleep(&while_, NULL);
	}
	printf("ptrace_stops_of_many_us %.3f\n", total / ROUNDS / MANY);
	for (int i = 0; i < MANY; i++)
		kill(sleeping[i], SIGKILL);
	for (int i = 0; i < MANY; i++)
		waitpid(sleeping[i], NULL, 0);
}

// Reads a file that is in the page cache into memory that was never touched.
static void plain_read(const char *dir)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/floors", dir);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	must(fd >= 0 && unlink(path) == 0, path);
	char *map = memory();
	memset(map, 7, GIB);
	for (uint64_t done = 0; done < GIB;) {
		ssize_t n = write(fd, map + done, GIB - done);
		must(n > 0, "write");
		done += (uint64_t)n;
	}
	munmap(map, GIB);
	map = memory();
	double begin = now();
	for (uint64_t done = 0; done < GIB;) {
		ssize_t n = pread(fd, map + done, GIB - done, (off_t)done);
		must(n > 0, "read");
		done += (uint64_t)n;
	}
	printf("plain_read_ms_per_gib %.3f\n", (now() - begin) / 1e3);
	munmap(map, GIB);
	close(fd);
}

int main(int argc, char **argv)
{
	must(argc == 2, "usage");
	faults_and_scans();
	stops();
	stops_of_many();
	plain_read(argv[1]);
	return 0;
}
