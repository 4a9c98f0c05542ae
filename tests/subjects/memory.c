// Heap, stack, anonymous and modified private file pages keep what was written to them.
#include "subject.h"

static char data[3 * PAGE] = "initialised";
static char bss[64 * PAGE];

int main(int argc, char **argv)
{
	begin(argc, argv);
	char on_stack[8 * PAGE];
	char *heap = malloc(300000), *anonymous;
	void *break_before = sbrk(0);
	char *grown = sbrk(20 * PAGE);
	CHECK(grown == break_before);
	anonymous = mmap(NULL, 256 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(on_stack, 1, sizeof on_stack);
	memset(heap, 2, 300000);
	memset(grown, 3, 20 * PAGE);
	memset(bss + 7 * PAGE, 4, PAGE);
	for (int i = 0; i < 256; i += 2)
		memset(anonymous + i * PAGE, i, PAGE);
	strcpy(data + PAGE, "modified");
	ready_and_wait();
	for (unsigned i = 0; i < sizeof on_stack; i++)
		CHECK(on_stack[i] == 1, "stack byte %u", i);
	for (int i = 0; i < 300000; i++)
		CHECK(heap[i] == 2, "heap byte %d", i);
	for (unsigned i = 0; i < 20 * PAGE; i++)
		CHECK(grown[i] == 3, "brk byte %u", i);
	for (unsigned i = 0; i < sizeof bss; i++)
		CHECK(bss[i] == (i / PAGE == 7 ? 4 : 0), "bss byte %u", i);
	for (unsigned i = 0; i < 256 * PAGE; i++)
		CHECK((unsigned char)anonymous[i] == (i / PAGE % 2 ? 0 : i / PAGE), "anonymous byte %u", i);
	CHECK(!strcmp(data, "initialised") && !strcmp(data + PAGE, "modified"));
	CHECK(sbrk(0) == grown + 20 * PAGE);
	CHECK(sbrk(PAGE) == grown + 20 * PAGE);
	grown[20 * PAGE] = 1;
	return well();
}
