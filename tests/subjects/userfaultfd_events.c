// A userfaultfd that is told of what a program does to its memory, and of its children; memory of huge pages, locked memory and guarded memory with missing pages.
#include "subject.h"
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>

enum { PAGES = 1024 };

static char *memory;
static int forks, removed, unmapped, moved;
static int asked[2][PAGES];

struct source {
	int fd, which;
};

static void put(int fd, long page)
{
	char bytes[PAGE] __attribute__((aligned(PAGE)));
	memset(bytes, 'A' + (int)(page % 26), PAGE);
	struct uffdio_copy copy = { .dst = (uintptr_t)memory + (uintptr_t)page * PAGE, .src = (uintptr_t)bytes, .len = PAGE };
	long result;
	do {
		result = ioctl(fd, UFFDIO_COPY, &copy);
	} while (result == -1 && errno == EAGAIN);
	CHECK(result == 0 || errno == EEXIST);
}

static void *serve(void *argument)
{
	struct source source = *(struct source *)argument;
	for (;;) {
		struct uffd_msg message;
		if (read(source.fd, &message, sizeof message) != sizeof message) {
			CHECK(errno == EINTR || errno == EAGAIN);
			continue;
		}
		if (message.event == UFFD_EVENT_PAGEFAULT) {
			long page = ((char *)(uintptr_t)message.arg.pagefault.address - memory) / (long)PAGE;
			CHECK(page >= 0 && page < PAGES, "%ld", page);
			__atomic_add_fetch(&asked[source.which][page], 1, __ATOMIC_SEQ_CST);
			put(source.fd, page);
		} else if (message.event == UFFD_EVENT_FORK) {
			static struct source child = { .which = 1 };
			child.fd = (int)message.arg.fork.ufd;
			pthread_t thread;
			CHECK(pthread_create(&thread, NULL, serve, &child) == 0);
			__atomic_add_fetch(&forks, 1, __ATOMIC_SEQ_CST);
		} else {
			int *counter = message.event == UFFD_EVENT_REMOVE ? &removed : message.event == UFFD_EVENT_UNMAP ? &unmapped : &moved;
			__atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
		}
	}
	return NULL;
}

static int is_present(long page)
{
	uint64_t entry;
	int fd = (int)MUST(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	CHECK(pread(fd, &entry, sizeof entry, (off_t)(((uintptr_t)memory / PAGE + (uintptr_t)page) * sizeof entry)) == sizeof entry);
	close(fd);
	return entry >> 63 & 1;
}

static char byte(long page)
{
	return ((volatile char *)memory)[page * (long)PAGE];
}

// The event lets go of its cause before it is counted.
static void wait_for_count(int *counter)
{
	while (__atomic_load_n(counter, __ATOMIC_SEQ_CST) == 0)
		tick();
	CHECK(*counter == 1);
}

static char pattern(long page)
{
	return (char)('A' + page % 26);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	char *at = mmap(NULL, 2 * PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(at != MAP_FAILED);
	// As huge pages would have it.
	memory = (char *)(((uintptr_t)at + PAGES * PAGE - 1) & ~(PAGES * PAGE - 1));
	madvise(memory, PAGES * PAGE, MADV_HUGEPAGE);
	static struct source own;
	own.fd = (int)MUST(syscall(SYS_userfaultfd, O_CLOEXEC));
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP,
	};
	MUST(ioctl(own.fd, UFFDIO_API, &api));
	struct uffdio_register reg = { .range = { (uintptr_t)memory, PAGES * PAGE }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	MUST(ioctl(own.fd, UFFDIO_REGISTER, &reg));
	pthread_t server;
	CHECK(pthread_create(&server, NULL, serve, &own) == 0);
	CHECK(byte(1) == pattern(1) && byte(600) == pattern(600));
	MUST(syscall(SYS_mlock2, memory + 900 * PAGE, 100 * PAGE, 1 /* MLOCK_ONFAULT */));
	CHECK(byte(901) == pattern(901));

	int gate[2];
	MUST(pipe(gate));
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		close(gate[1]);
		memory[1 * PAGE] = 'c';
		CHECK(byte(2) == pattern(2));
		write_file("child", "");
		wait_for_go(gate[0]);
		CHECK(byte(1) == 'c' && byte(2) == pattern(2) && byte(600) == pattern(600));
		CHECK(!is_present(3) && byte(3) == pattern(3));
		_exit(0);
	}
	close(gate[0]);
	while (!told("child"))
		tick();
	wait_for_count(&forks);
	CHECK(byte(1) == pattern(1));

	ready_and_wait();

	for (long page = 0; page < PAGES; page++) {
		int there = page == 1 || page == 600 || page == 901;
		CHECK(is_present(page) == there, "page %ld", page);
		CHECK(byte(page) == pattern(page) && asked[0][page] == 1, "page %ld: %d", page, asked[0][page]);
	}
	close(gate[1]);
	child_must_be_well(child);
	CHECK(asked[1][1] == 0 && asked[1][2] == 1 && asked[1][3] == 1 && asked[1][600] == 0);
	// It is told of what comes now as well.
	MUST(madvise(memory + 10 * PAGE, PAGE, MADV_DONTNEED));
	wait_for_count(&removed);
	CHECK(byte(10) == pattern(10) && asked[0][10] == 2);
	MUST(munmap(memory + 20 * PAGE, PAGE));
	wait_for_count(&unmapped);
	CHECK(mremap(memory + 30 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, memory + 20 * PAGE) != MAP_FAILED);
	wait_for_count(&moved);
	CHECK(byte(20) == pattern(30));
	return well();
}
