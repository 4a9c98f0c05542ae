// Memory that changes in another way at each step, so that every checkpoint of a chain is another state: pages written, given
// back to the kernel, unmapped and mapped again, filled with zeros, moved, shrunk and grown.
#include "subject.h"

#define N 256
static unsigned char *at, *moved, *heap;
static int step;

static void fill(unsigned char *from, int pages, int value)
{
	memset(from, value, (size_t)pages * PAGE);
}

static void is(const unsigned char *from, int pages, int value, const char *what)
{
	for (size_t i = 0; i < (size_t)pages * PAGE; i++)
		CHECK(from[i] == value, "%s: byte %zu is %d, want %d, at step %d", what, i, from[i], value, step);
}

static void map_fixed(unsigned char *from, int pages)
{
	CHECK(mmap(from, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == from);
}

static void apply(int n)
{
	switch (n) {
	case 1: // written again
		fill(at, 10, 2);
		break;
	case 2: // given back: reads as zero
		MUST(madvise(at + 10 * PAGE, 10 * PAGE, MADV_DONTNEED));
		break;
	case 3: // unmapped, and new memory in its place
		MUST(munmap(at + 20 * PAGE, 10 * PAGE));
		map_fixed(at + 20 * PAGE, 10);
		at[25 * PAGE] = 33;
		break;
	case 4: // zeros by hand
		fill(at + 30 * PAGE, 10, 0);
		break;
	case 5: // moved elsewhere with its pages
		moved = mremap(at + 40 * PAGE, 10 * PAGE, 20 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + N * PAGE);
		CHECK(moved == at + N * PAGE);
		break;
	case 6: // the heap shrinks and grows: what comes back is zero
		CHECK(sbrk(-8 * (long)PAGE) != (void *)-1);
		CHECK(sbrk(4 * PAGE) != (void *)-1);
		break;
	case 7: // swapped with fork's help: a child has shared the pages for a while
	{
		pid_t child = MUST(fork());
		if (child == 0)
			_exit(0);
		fill(at + 60 * PAGE, 5, 7);
		MUST(waitpid(child, NULL, 0));
		break;
	}
	case 8: // remapped over, without munmap
		map_fixed(at + 70 * PAGE, 10);
		break;
	}
}

static void check(void)
{
	is(at, 10, step >= 1 ? 2 : 1, "written again");
	is(at + 10 * PAGE, 10, step >= 2 ? 0 : 1, "given back");
	is(at + 20 * PAGE, 5, step >= 3 ? 0 : 1, "mapped anew");
	CHECK(at[25 * PAGE] == (step >= 3 ? 33 : 1));
	is(at + 26 * PAGE, 4, step >= 3 ? 0 : 1, "mapped anew");
	is(at + 30 * PAGE, 10, step >= 4 ? 0 : 1, "zeros");
	if (step >= 5) {
		is(moved, 10, 1, "moved");
		is(moved + 10 * PAGE, 10, 0, "grown while moved");
	} else {
		is(at + 40 * PAGE, 10, 1, "not moved yet");
	}
	is(heap, 8, 5, "heap");
	if (step >= 6) {
		is(heap + 8 * PAGE, 4, 0, "heap that came back");
		CHECK(sbrk(0) == heap + 12 * PAGE);
	} else {
		is(heap + 8 * PAGE, 8, 5, "end of the heap");
	}
	is(at + 50 * PAGE, 10, 1, "untouched");
	is(at + 60 * PAGE, 5, step >= 7 ? 7 : 1, "written under a fork");
	is(at + 65 * PAGE, 5, 1, "shared by a fork");
	is(at + 70 * PAGE, 10, step >= 8 ? 0 : 1, "mapped over");
	is(at + 80 * PAGE, N - 80, 1, "untouched");
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	// Room behind it, for what moves.
	at = mmap(NULL, 2 * N * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	map_fixed(at, N);
	fill(at, N, 1);
	heap = (unsigned char *)(((uintptr_t)sbrk(2 * PAGE) + PAGE - 1) & ~(PAGE - 1));
	MUST(brk(heap + 16 * PAGE));
	fill(heap, 16, 5);
	write_file("ready", "");
	while (!told("go")) {
		char name[32];
		snprintf(name, sizeof name, "step-%d", step + 1);
		if (told(name)) {
			apply(++step);
			check();
			snprintf(name, sizeof name, "done-%d", step);
			write_file(name, "");
		}
		tick();
	}
	check();
	char verdict[32];
	snprintf(verdict, sizeof verdict, "step %d", step);
	write_file("verdict", verdict);
	return 0;
}
