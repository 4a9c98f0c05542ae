// Memory that children have from their parent, and that parent and children changed a little of since: contents, mappings, protection, advice.
#include "subject.h"
#include <sys/wait.h>

enum { CHILDREN = 4, AREA = 64 << 20, SMALL = 16 * PAGE };

static unsigned char *area, *changed, *unmapped, *protected, *private_to_parent, *wiped, *dropped, *advised;
static long in_data = 0x1234;

static unsigned long word(unsigned long at)
{
	unsigned long x = at * 0x9e3779b97f4a7c15;
	x ^= x >> 29;
	return x * 0xbf58476d1ce4e5b9;
}

static void fill(unsigned char *at, size_t size, unsigned long seed)
{
	for (size_t i = 0; i < size; i += 8)
		*(unsigned long *)(at + i) = word(seed + i);
}

static int holds(const unsigned char *at, size_t size, unsigned long seed)
{
	for (size_t i = 0; i < size; i += 8)
		if (*(const unsigned long *)(at + i) != word(seed + i))
			return 0;
	return 1;
}

static unsigned char *map(size_t size)
{
	unsigned char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(at != MAP_FAILED);
	return at;
}

// All of the area but the page that child `n` changed; -1: the parent, which changed the last.
static void check_area(int n)
{
	size_t own = n < 0 ? AREA - PAGE : (size_t)n * 100 * PAGE;
	CHECK(holds(area, own, 0));
	CHECK(holds(area + own, PAGE, 7000 + (unsigned long)n), "the page that %d changed", n);
	CHECK(holds(area + own + PAGE, AREA - own - PAGE, own + PAGE));
}

static int is_mapped(void *at)
{
	unsigned char seen;
	return mincore(at, PAGE, &seen) == 0;
}

static void check_child(int n, char *heap, const volatile long *on_stack)
{
	check_area(n);
	CHECK(holds(changed, SMALL, n == 1 ? 91 : 1));
	CHECK(is_mapped(unmapped + 4 * PAGE) == (n != 2));
	CHECK(holds(unmapped, 4 * PAGE, 2) && holds(unmapped + 8 * PAGE, SMALL - 8 * PAGE, 2 + 8 * PAGE));
	CHECK(holds(protected, SMALL, 3));
	CHECK(!is_mapped(private_to_parent));
	for (int i = 0; i < SMALL; i++)
		CHECK(wiped[i] == (n == 3 && i == 5));
	if (n == 0) {
		for (int i = 0; i < 8 * PAGE; i++)
			CHECK(dropped[i] == 0, "%d", i);
		CHECK(holds(dropped + 8 * PAGE, SMALL - 8 * PAGE, 6 + 8 * PAGE));
	} else {
		CHECK(holds(dropped, SMALL, 6));
	}
	CHECK(holds(advised, SMALL, 8));
	CHECK(in_data == (n == 0 ? 77 : 0x1234) && *on_stack == 5 + n, "%lx %ld", in_data, *on_stack);
	for (int i = 0; i < 3 << 20; i++)
		CHECK(heap[i] == (char)(i / 1000 + n));
	// Whose page it is now: mine alone.
	memset(changed, n, SMALL);
	area[AREA / 2] = (unsigned char)n;
}

static _Noreturn void be_child(int n)
{
	volatile long on_stack = 5 + n;
	fill(area + (size_t)n * 100 * PAGE, PAGE, 7000 + (unsigned long)n);
	if (n == 0) {
		in_data = 77;
		MUST(madvise(dropped, 8 * PAGE, MADV_DONTNEED));
	}
	if (n == 1)
		fill(changed, SMALL, 91);
	if (n == 2) {
		MUST(munmap(unmapped + 4 * PAGE, 4 * PAGE));
		MUST(mprotect(protected, SMALL / 2, PROT_READ));
		MUST(madvise(advised, SMALL, MADV_DONTFORK));
	}
	if (n == 3)
		wiped[5] = 1;
	char *heap = malloc(3 << 20);
	for (int i = 0; i < 3 << 20; i++)
		heap[i] = (char)(i / 1000 + n);
	pid_t below = 0;
	if (n == 3) {
		below = (pid_t)MUST(fork());
		if (below == 0)
			fill(area + (size_t)n * 100 * PAGE, PAGE, 7000 + (unsigned long)n);
	}
	char name[32];
	snprintf(name, sizeof name, "child-%d%s", n, n == 3 && below == 0 ? "-below" : "");
	write_file(name, "");
	while (!told("go"))
		tick();
	if (n == 3 && below == 0)
		wiped[5] = 1; // wiped once more
	check_child(n, heap, &on_stack);
	int status;
	if (below)
		CHECK(MUST(waitpid(below, &status, 0)) == below && status == 0, "%x", status);
	_exit(told("verdict") ? 1 : 0);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	area = map(AREA);
	fill(area, AREA, 0);
	unsigned char **areas[] = { &changed, &unmapped, &protected, &private_to_parent, &wiped, &dropped, NULL, &advised };
	for (unsigned long i = 0; i < sizeof areas / sizeof *areas; i++) {
		unsigned char *at = map(SMALL + PAGE);
		// A gap after each: they stay mappings of their own.
		MUST(munmap(at + SMALL, PAGE));
		fill(at, SMALL, i + 1);
		if (areas[i])
			*areas[i] = at;
	}
	MUST(madvise(private_to_parent, SMALL, MADV_DONTFORK));
	MUST(madvise(wiped, SMALL, MADV_WIPEONFORK));
	pid_t children[CHILDREN + 1];
	int count = 0;
	for (; count < CHILDREN; count++) {
		children[count] = (pid_t)MUST(fork());
		if (children[count] == 0)
			be_child(count);
	}
	fill(area + AREA - PAGE, PAGE, 6999);
	fill(changed, SMALL, 55);
	for (int n = 0; n < CHILDREN; n++) {
		char name[32];
		snprintf(name, sizeof name, "child-%d", n);
		while (!told(name))
			tick();
	}
	while (!told("child-3-below"))
		tick();
	write_file("ready", "");
	while (!told("go")) {
		tick();
		if (told("fork") && count == CHILDREN) {
			children[count] = (pid_t)MUST(fork());
			if (children[count] == 0) {
				while (!told("go"))
					tick();
				check_area(-1);
				_exit(0);
			}
			count++;
			write_file("forked", "");
		}
	}
	check_area(-1);
	CHECK(holds(changed, SMALL, 55) && holds(unmapped, SMALL, 2) && holds(protected, SMALL, 3));
	CHECK(holds(private_to_parent, SMALL, 4) && holds(wiped, SMALL, 5) && holds(dropped, SMALL, 6));
	CHECK(in_data == 0x1234);
	for (int n = 0; n < count; n++) {
		int status;
		CHECK(MUST(waitpid(children[n], &status, 0)) == children[n] && status == 0, "child %d: %x", n, status);
	}
	return well();
}
