// Writes to all of its memory, page by page, again and again, each time one more to each word than the last time; and does, when it is told to, what
// would tell it of a clone of its memory. Also has memory that a fork(2) does not take along, and a shared mapping of a file that it has locked.
#include "subject.h"
#include <pthread.h>
#include <sys/file.h>

enum { PAGES = 6 << 20 >> 12, WORDS = PAGE / 8, APART = 16 };

static uint64_t *memory;
static volatile uint64_t round_ = 1;
static volatile int stop;
static uint64_t *dontfork, *wipeonfork;

static void write_page(size_t page)
{
	for (size_t i = 0; i < WORDS; i++) {
		uint64_t *word = memory + page * WORDS + i;
		CHECK(*word == round_ - 1, "page %zu word %zu: %lu in round %lu", page, i, *word, round_);
		*word = round_;
	}
	if (page < APART) {
		uint64_t *words[] = { dontfork + page * WORDS, wipeonfork + page * WORDS };
		for (int i = 0; i < 2; i++) {
			CHECK(*words[i] == round_ - 1, "kept from children: page %zu: %lu in round %lu", page, *words[i], round_);
			*words[i] = round_;
		}
	}
}

static void *writes(void *unused)
{
	while (!stop) {
		for (size_t page = 0; page < PAGES; page++)
			write_page(page);
		round_++;
	}
	return unused;
}

static uint64_t *map(size_t pages)
{
	void *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(at != MAP_FAILED);
	return at;
}

static void no_children(void)
{
	CHECK(waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD);
}

// What is closed here is closed.
static void close_all(void)
{
	int ends[2];
	MUST(pipe2(ends, O_NONBLOCK));
	write_file("open", "");
	while (!told("close"))
		no_children(), tick();
	char byte;
	CHECK(read(ends[0], &byte, 1) == -1 && errno == EAGAIN);
	MUST(close(ends[1]));
	CHECK(read(ends[0], &byte, 1) == 0);
	MUST(close(ends[0]));
}

static void unlock_all(void *mapped, int locked)
{
	int other = MUST(open(in_dir("lock"), O_RDWR));
	CHECK(flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
	MUST(munmap(mapped, PAGE));
	MUST(close(locked));
	MUST(flock(other, LOCK_EX | LOCK_NB));
	MUST(close(other));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	memory = map(PAGES);
	MUST(madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE));
	dontfork = map(APART), wipeonfork = map(APART);
	MUST(madvise(dontfork, APART * PAGE, MADV_DONTFORK));
	MUST(madvise(wipeonfork, APART * PAGE, MADV_WIPEONFORK));
	int locked = MUST(open(in_dir("lock"), O_RDWR | O_CREAT, 0600));
	MUST(ftruncate(locked, PAGE));
	void *mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, locked, 0);
	CHECK(mapped != MAP_FAILED);
	MUST(flock(locked, LOCK_EX));
	pthread_t writer;
	CHECK(pthread_create(&writer, NULL, writes, NULL) == 0);
	while (round_ < 3)
		tick();
	write_file("ready", "");
	if (argc > 2) {
		close_all();
		unlock_all(mapped, locked);
		write_file("closed", "");
	}
	while (!told("go"))
		no_children(), tick();
	// Each page has come by since.
	for (uint64_t from = round_; round_ < from + 2;)
		tick();
	stop = 1;
	CHECK(pthread_join(writer, NULL) == 0);
	no_children();
	return well();
}
