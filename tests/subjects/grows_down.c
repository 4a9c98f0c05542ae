// The main stack still grows, and so does another mapping with MAP_GROWSDOWN.
#include "subject.h"

static volatile char *lowest;

static int deep(int frames)
{
	volatile char room[16 * 1024];
	room[0] = (char)frames;
	lowest = room;
	return frames == 0 ? 0 : deep(frames - 1) + room[0] * 0 + 1;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	char *at = mmap(NULL, 512 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *top = at + 508 * PAGE;
	MUST(munmap(at, 512 * PAGE));
	char *stack = mmap(top, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
	CHECK(stack == top);
	strcpy(stack, "bottom");
	stack[-1] = 'x'; // grown by a page before the checkpoint
	ready_and_wait();
	CHECK(!strcmp(stack, "bottom") && stack[-1] == 'x');
	for (int page = 1; page < 64; page++)
		stack[-page * (long)PAGE] = 'y';
	CHECK(deep(200) == 200); // 3.2 MB below main's frame
	return well();
}
