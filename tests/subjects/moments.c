// Threads that write to pages all over their memory all the time, and note each write elsewhere: at any moment every page holds what was noted last of it.
// `moments DIRECTORY [forked]`: two processes of them, which have had the same pages.
#include "subject.h"
#include <pthread.h>

#define PAGES 4000
#define WORDS (PAGE / sizeof(uint64_t))
#define WRITES 400

struct writer {
	uint64_t (*pages)[WORDS];
	uint64_t *noted;
	uint64_t writes, random;
};

static volatile int stop;

static uint64_t next_random(struct writer *writer)
{
	writer->random ^= writer->random << 13;
	writer->random ^= writer->random >> 7;
	writer->random ^= writer->random << 17;
	return writer->random;
}

static void write_page(struct writer *writer, uint64_t n)
{
	uint64_t write = ++writer->writes;
	writer->pages[n][1 + write % (WORDS - 1)] = write;
	writer->pages[n][0] = write;
	// Not before it is there.
	__atomic_store_n(&writer->noted[n], write, __ATOMIC_SEQ_CST);
}

static void check(struct writer *writer)
{
	for (uint64_t n = 0; n < PAGES; n++) {
		uint64_t *page = writer->pages[n], noted = writer->noted[n];
		CHECK(page[0] == noted && page[1 + noted % (WORDS - 1)] == noted, "page %lu holds write %lu, not %lu, after %lu", n, page[0], noted,
		      writer->writes);
	}
}

static void *writes(void *arg)
{
	struct writer *writer = arg;
	for (unsigned round = 0; !stop; round++) {
		// Most of what a program writes is near to what it has just written.
		uint64_t near = next_random(writer) % (PAGES - 64);
		for (int i = 0; i < WRITES; i++) {
			uint64_t random = next_random(writer);
			write_page(writer, random & 3 ? near + (random >> 8) % 64 : (random >> 8) % PAGES);
		}
		if (round % 16 == 0)
			check(writer);
		tick();
	}
	check(writer);
	return NULL;
}

enum { ANONYMOUS, OF_A_FILE, SHARED, KINDS };

static void *map_pages(int kind)
{
	int fd = -1, flags = kind == SHARED ? MAP_SHARED : kind == OF_A_FILE ? MAP_PRIVATE : MAP_PRIVATE | MAP_ANONYMOUS;
	if (kind == OF_A_FILE)
		fd = (int)MUST(open(in_dir("pages"), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
	if (kind == SHARED)
		fd = (int)MUST(memfd_create("pages", MFD_CLOEXEC));
	if (fd != -1)
		MUST(ftruncate(fd, PAGES * PAGE));
	void *pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
	CHECK(pages != MAP_FAILED);
	return pages;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int forked = argc > 2;
	struct writer writers[KINDS];
	pthread_t threads[KINDS];
	for (int i = 0; i < KINDS; i++) {
		writers[i] = (struct writer){ .pages = map_pages(i), .random = 88172645463325252 + i };
		CHECK((writers[i].noted = calloc(PAGES, sizeof(uint64_t))));
		for (uint64_t n = 0; n < PAGES; n++)
			write_page(&writers[i], n);
	}
	pid_t child = forked ? (pid_t)MUST(fork()) : 0;
	// What is shared is the child's.
	int kinds = child ? SHARED : KINDS;
	for (int i = 0; i < kinds; i++)
		CHECK(pthread_create(&threads[i], NULL, writes, &writers[i]) == 0);
	if (forked && !child) {
		while (!told("go"))
			tick();
	} else {
		ready_and_wait();
	}
	stop = 1;
	for (int i = 0; i < kinds; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	if (forked && !child)
		return 0;
	if (child)
		child_must_be_well(child);
	return well();
}
