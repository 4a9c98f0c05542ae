// Memory that is filled while the program runs: threads, children, and all that a program may do to its mappings meanwhile. Each page holds
// what its number says. `late` (the program runs again) is made before anything is touched.
#include "subject.h"
#include <pthread.h>
#include <sys/uio.h>

#define PAGES 16384UL
#define PART (PAGES / 16)

static uint64_t *memory;

static uint64_t word(unsigned long page, unsigned long at)
{
	return (page * 512 + at + 1) * 0x9e3779b97f4a7c15UL;
}

static void fill(unsigned long page)
{
	for (unsigned long i = 0; i < 512; i++)
		memory[page * 512 + i] = word(page, i);
}

static void check_at(const void *where, unsigned long page, const char *what)
{
	const uint64_t *words = where;
	for (unsigned long i = 0; i < 512; i++)
		CHECK(words[i] == word(page, i), "%s: page %lu, word %lu is %lx", what, page, i, words[i]);
}

static void check(unsigned long page, const char *what)
{
	check_at(memory + page * 512, page, what);
}

static void is_zero(const void *where, unsigned long pages, const char *what)
{
	const uint64_t *words = where;
	for (unsigned long i = 0; i < pages * 512; i++)
		CHECK(!words[i], "%s: word %lu", what, i);
}

static void *at(unsigned long part)
{
	return memory + part * PART * 512;
}

// Every page of a part, in an order of its own.
static void *check_part(void *arg)
{
	unsigned long part = (unsigned long)arg, step = 2 * part + 1;
	for (unsigned long i = 0; i < PART; i++)
		check(part * PART + i * step % PART, "thread");
	return NULL;
}

static void child_checks(unsigned long part, const char *what)
{
	int status;
	pid_t child = fork();
	CHECK(child >= 0);
	if (!child) {
		for (unsigned long i = PART; i-- > 0;)
			check(part * PART + i, what);
		pid_t grandchild = fork();
		if (!grandchild) {
			for (unsigned long i = 0; i < PART; i++)
				check((part + 1) * PART + i, what);
			_exit(7);
		}
		CHECK(waitpid(grandchild, &status, 0) == grandchild && WEXITSTATUS(status) == 7);
		_exit(7);
	}
	// The parent's copies are its own.
	fill(part * PART);
	memory[part * PART * 512 + 512 * 9] = 0;
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
	CHECK(memory[part * PART * 512 + 512 * 9] == 0);
	fill(part * PART + 9);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	pthread_t threads[4];
	memory = mmap(NULL, (PAGES + 64) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	for (unsigned long page = 0; page < PAGES; page++)
		fill(page);
	ready_and_wait();
	write_file("late", "");

	// Children, before anything is there.
	child_checks(14, "child");
	// Given up, wholly and in the middle.
	CHECK(!madvise((char *)at(8) + 10 * PAGE, 20 * PAGE, MADV_DONTNEED));
	is_zero((char *)at(8) + 10 * PAGE, 20, "given up");
	// Moved to a place of the kernel's choice, and from there over another part.
	char *moved = mremap(at(9), PART * PAGE, PART * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			     mmap(NULL, PART * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	CHECK(moved != MAP_FAILED);
	check_at(moved + 5 * PAGE, 9 * PART + 5, "moved");
	CHECK(mremap(moved, PART * PAGE, PART * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(10)) == at(10));
	// Unmapped, and something else in its place.
	CHECK(!munmap(at(11), PART * PAGE));
	CHECK(mmap(at(11), PART * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at(11));
	is_zero(at(11), PART, "mapped anew");
	// Protected in parts, so that it is several mappings.
	for (unsigned long i = 0; i < PART; i += 7)
		CHECK(!mprotect((char *)at(12) + i * PAGE, PAGE, PROT_READ));
	// The kernel reads and writes it for the program.
	int pipes[2];
	char bytes[PAGE];
	CHECK(!pipe(pipes));
	for (unsigned long i = 0; i < PART; i += 50) {
		CHECK(write(pipes[1], (char *)at(13) + i * PAGE, PAGE) == PAGE);
		CHECK(read(pipes[0], bytes, PAGE) == PAGE);
		check_at(bytes, 13 * PART + i, "written by the kernel");
		CHECK(write(pipes[1], bytes, 100) == 100);
		CHECK(read(pipes[0], (char *)at(13) + (i + 1) * PAGE + 8, 100) == 100);
		CHECK(memory[(13 * PART + i + 1) * 512] == word(13 * PART + i + 1, 0), "around what the kernel wrote");
		CHECK(memory[(13 * PART + i + 1) * 512 + 500] == word(13 * PART + i + 1, 500));
	}
	// Never touched before.
	is_zero(memory + PAGES * 512, 64, "untouched");
	for (unsigned long i = 0; i < 4; i++)
		CHECK(!pthread_create(&threads[i], NULL, check_part, (void *)i));
	// Written to before it is read.
	for (unsigned long i = 0; i < PART; i++)
		memory[(4 * PART + i) * 512 + 3] ^= 1;
	for (unsigned long i = 0; i < 4; i++)
		CHECK(!pthread_join(threads[i], NULL));
	for (unsigned long i = 0; i < PART; i++) {
		memory[(4 * PART + i) * 512 + 3] ^= 1;
		check(4 * PART + i, "written to");
	}
	for (unsigned long i = 0; i < PART; i++) {
		if (i < 10 || i >= 30)
			check(8 * PART + i, "around what was given up");
		check_at((char *)at(10) + i * PAGE, 9 * PART + i, "moved twice");
		check(12 * PART + i, "in several mappings");
	}
	for (unsigned long page = 0; page < PAGES; page++)
		if ((page / PART < 8 || page / PART == 15) && page / PART != 4)
			check(page, "at the end");
	return well();
}
