// userfaultfd: missing pages that a thread brings, and those that a process brings to another; pages that are protected, also asynchronously; an access that waits.
#include "subject.h"
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif

enum { PAGES = 64, ZERO = 16, ZERO_COPY, PROTECTED = 20, DROPPED = 24, MARKED = 28, WRITTEN = 30, WAITING = 40 };

static int userfaultfd(uint64_t features)
{
	int fd = (int)MUST(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	MUST(ioctl(fd, UFFDIO_API, &api));
	return fd;
}

static char *area_of(int fd, uint64_t modes, int kind)
{
	// Neighbours that are not registered are mapped, too.
	char *at = mmap(NULL, (PAGES + 2) * PAGE, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);
	CHECK(at != MAP_FAILED);
	at += PAGE;
	struct uffdio_register reg = { .range = { (uintptr_t)at, PAGES * PAGE }, .mode = modes };
	MUST(ioctl(fd, UFFDIO_REGISTER, &reg));
	return at;
}

static char *area(int fd, uint64_t modes)
{
	return area_of(fd, modes, MAP_PRIVATE);
}

static int protect(int fd, const char *at, unsigned long pages, uint64_t mode)
{
	struct uffdio_writeprotect protect = { .range = { (uintptr_t)at, pages * PAGE }, .mode = mode };
	return ioctl(fd, UFFDIO_WRITEPROTECT, &protect);
}

static void put_zero(int fd, const char *at)
{
	struct uffdio_zeropage zero = { .range = { (uintptr_t)at, PAGE } };
	MUST(ioctl(fd, UFFDIO_ZEROPAGE, &zero));
}

static void put(int fd, const char *at, char byte)
{
	char bytes[PAGE] __attribute__((aligned(PAGE)));
	memset(bytes, byte, PAGE);
	struct uffdio_copy copy = { .dst = (uintptr_t)at, .src = (uintptr_t)bytes, .len = PAGE };
	// It may have been asked for twice.
	CHECK(ioctl(fd, UFFDIO_COPY, &copy) == 0 || errno == EEXIST);
}

static char pattern(long page)
{
	return (char)('A' + page % 26);
}

// Memory of which a thread here, or another process, brings the pages.
struct pager {
	int fd;
	char *memory;
	int asked[PAGES], unprotected[PAGES];
	int holds_back;
};

static void answer(struct pager *pager, struct uffd_msg message)
{
	CHECK(message.event == UFFD_EVENT_PAGEFAULT);
	long page = ((char *)(uintptr_t)message.arg.pagefault.address - pager->memory) / (long)PAGE;
	CHECK(page >= 0 && page < PAGES, "%ld", page);
	if (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) {
		__atomic_add_fetch(&pager->unprotected[page], 1, __ATOMIC_SEQ_CST);
		MUST(protect(pager->fd, pager->memory + page * (long)PAGE, 1, 0));
		return;
	}
	__atomic_add_fetch(&pager->asked[page], 1, __ATOMIC_SEQ_CST);
	if (page != WAITING || !__atomic_load_n(&pager->holds_back, __ATOMIC_SEQ_CST))
		put(pager->fd, pager->memory + page * (long)PAGE, pattern(page));
}

static void *serve(void *argument)
{
	struct pager *pager = argument;
	int set = (int)MUST(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = 42 };
	MUST(epoll_ctl(set, EPOLL_CTL_ADD, pager->fd, &event));
	for (;;) {
		struct uffd_msg message;
		int count = epoll_wait(set, &event, 1, -1);
		CHECK(count == 1 ? event.data.u32 == 42 && event.events == EPOLLIN : errno == EINTR, "%d %x", count, event.events);
		while (read(pager->fd, &message, sizeof message) == sizeof message)
			answer(pager, message);
		CHECK(errno == EAGAIN);
	}
	return NULL;
}

static int asked(struct pager *pager, long page)
{
	return __atomic_load_n(&pager->asked[page], __ATOMIC_SEQ_CST);
}

static void *wait_for_page(void *argument)
{
	struct pager *pager = argument;
	char found = ((volatile char *)pager->memory)[WAITING * PAGE];
	return (void *)(long)(found == pattern(WAITING));
}

// Has memory that its parent brings the pages of.
static void faulting(int to_parent, int go)
{
	int fd = userfaultfd(0);
	char *memory = area(fd, UFFDIO_REGISTER_MODE_MISSING);
	char control[CMSG_SPACE(sizeof fd)] __attribute__((aligned(8))) = { 0 };
	struct iovec data = { &memory, sizeof memory };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	*header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd) };
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	MUST(sendmsg(to_parent, &message, 0));
	close(fd);
	CHECK(memory[0] == pattern(0) && memory[5 * PAGE] == pattern(5));
	memory[5 * PAGE] = 'x';
	MUST(write(to_parent, "r", 1));
	wait_for_go(go);
	for (long page = 0; page < PAGES; page++)
		CHECK(memory[page * (long)PAGE] == (page == 5 ? 'x' : pattern(page)), "page %ld", page);
	_exit(0);
}

static pid_t start_child(struct pager *pager, int *go)
{
	int pair[2], gate[2];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	MUST(pipe(gate));
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		close(pair[0]);
		close(gate[1]);
		faulting(pair[1], gate[0]);
	}
	close(pair[1]);
	close(gate[0]);
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
	struct iovec data = { &pager->memory, sizeof pager->memory };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	CHECK(recvmsg(pair[0], &message, MSG_CMSG_CLOEXEC) == sizeof pager->memory);
	memcpy(&pager->fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof pager->fd);
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, serve, pager) == 0);
	char byte;
	CHECK(read(pair[0], &byte, 1) == 1 && byte == 'r');
	*go = gate[1];
	return child;
}

// The marks in the page table: bit 57 of the page map is protection, bit 63 presence.
static uint64_t entry(const char *at)
{
	uint64_t entry;
	int fd = (int)MUST(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	CHECK(pread(fd, &entry, sizeof entry, (off_t)((uintptr_t)at / PAGE * sizeof entry)) == sizeof entry);
	close(fd);
	return entry;
}

static int is_protected(const char *at)
{
	return entry(at) >> 57 & 1;
}

static int is_present(const char *at)
{
	return entry(at) >> 63 & 1;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	if (argc > 2) {
		// It is saved before it has any.
		write_file("idle", "");
		while (!told("begin"))
			tick();
	}
	static struct pager own = { .holds_back = 1 }, childs, shared;
	int go;
	pid_t child = start_child(&childs, &go);

	own.fd = userfaultfd(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED);
	own.memory = area(own.fd, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP);
	pthread_t server, waiter;
	CHECK(pthread_create(&server, NULL, serve, &own) == 0);
	volatile char *memory = own.memory;
	for (long page = 0; page < ZERO; page++)
		CHECK(memory[page * (long)PAGE] == pattern(page));
	memory[3 * PAGE] = 'w';
	put_zero(own.fd, own.memory + ZERO * PAGE);
	put(own.fd, own.memory + ZERO_COPY * PAGE, 0);
	for (long page = PROTECTED; page <= DROPPED; page++)
		CHECK(memory[page * (long)PAGE] == pattern(page));
	MUST(protect(own.fd, own.memory + PROTECTED * PAGE, 2, UFFDIO_WRITEPROTECT_MODE_WP));
	MUST(protect(own.fd, own.memory + MARKED * PAGE, 1, UFFDIO_WRITEPROTECT_MODE_WP));
	MUST(madvise(own.memory + DROPPED * PAGE, PAGE, MADV_DONTNEED));
	CHECK(asked(&own, DROPPED) == 1);
	CHECK(pthread_create(&waiter, NULL, wait_for_page, &own) == 0);
	while (asked(&own, WAITING) == 0)
		tick();

	// Shared memory; half of it is mapped once more, and handled there as well.
	shared.fd = userfaultfd(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM);
	shared.memory = area_of(shared.fd, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP, MAP_SHARED);
	CHECK(pthread_create(&server, NULL, serve, &shared) == 0);
	char *view = mremap(shared.memory, 0, PAGES / 2 * PAGE, MREMAP_MAYMOVE);
	CHECK(view != MAP_FAILED);
	struct uffdio_register viewed = { .range = { (uintptr_t)view, PAGES / 2 * PAGE }, .mode = UFFDIO_REGISTER_MODE_WP };
	MUST(ioctl(shared.fd, UFFDIO_REGISTER, &viewed));
	for (long page = 0; page < 4; page++)
		CHECK(((volatile char *)shared.memory)[page * (long)PAGE] == pattern(page));
	shared.memory[0] = 's';
	put_zero(shared.fd, shared.memory + 4 * PAGE);
	MUST(protect(shared.fd, shared.memory + 2 * PAGE, 4, UFFDIO_WRITEPROTECT_MODE_WP));

	// Its own dirty tracking.
	int tracker = userfaultfd(UFFD_FEATURE_WP_ASYNC);
	char *tracked = area(tracker, UFFDIO_REGISTER_MODE_WP);
	memset(tracked, 't', PAGES / 2 * PAGE);
	MUST(protect(tracker, tracked, PAGES / 2, UFFDIO_WRITEPROTECT_MODE_WP));
	tracked[7 * PAGE] = 'u';
	int spare = (int)MUST(syscall(SYS_userfaultfd, O_CLOEXEC));
	int duplicate = (int)MUST(dup(own.fd));

	// It may go on a little between two checkpoints.
	write_file("ready", "");
	while (!told("go")) {
		if (told("write") && !told("written")) {
			memory[WRITTEN * PAGE] = 'n';
			memory[3 * PAGE] = 'W';
			tracked[9 * PAGE] = 'v';
			write_file("written", "");
		}
		tick();
	}

	int wrote = told("written");
	CHECK((fcntl(own.fd, F_GETFL) & O_NONBLOCK) && !(fcntl(spare, F_GETFL) & O_NONBLOCK));
	CHECK(fcntl(own.fd, F_GETFD) == FD_CLOEXEC && fcntl(duplicate, F_GETFD) == 0);
	// What was there is there, and nobody is asked for it.
	for (long page = 0; page < ZERO; page++) {
		char expected = page == 3 ? (wrote ? 'W' : 'w') : pattern(page);
		CHECK(is_present(own.memory + page * (long)PAGE), "page %ld", page);
		CHECK(memory[page * (long)PAGE] == expected && asked(&own, page) == 1, "page %ld: %c", page, memory[page * (long)PAGE]);
	}
	CHECK(memory[ZERO * PAGE] == 0 && memory[ZERO_COPY * PAGE] == 0 && asked(&own, ZERO) == 0 && asked(&own, ZERO_COPY) == 0);
	// What is protected is told of, once.
	for (long page = PROTECTED; page < DROPPED; page++) {
		int protects = page < PROTECTED + 2;
		CHECK(is_protected(own.memory + page * (long)PAGE) == protects, "page %ld", page);
		CHECK(memory[page * (long)PAGE] == pattern(page));
		memory[page * (long)PAGE] = 'p';
		CHECK(own.unprotected[page] == protects && asked(&own, page) == 1, "page %ld: %d", page, own.unprotected[page]);
	}
	CHECK(is_protected(own.memory + MARKED * PAGE) && !is_present(own.memory + MARKED * PAGE));
	CHECK(memory[WRITTEN * PAGE] == (wrote ? 'n' : pattern(WRITTEN)) && asked(&own, WRITTEN) == 1);
	// What is missing is asked for, also what was there once.
	for (long page = 42; page < PAGES; page++) {
		CHECK(!is_present(own.memory + page * (long)PAGE) && asked(&own, page) == 0, "page %ld", page);
		CHECK(memory[page * (long)PAGE] == pattern(page) && asked(&own, page) == 1, "page %ld", page);
	}
	CHECK(!is_present(own.memory + DROPPED * PAGE));
	CHECK(memory[DROPPED * PAGE] == pattern(DROPPED) && asked(&own, DROPPED) == 2);
	// Who waits has gone on waiting.
	__atomic_store_n(&own.holds_back, 0, __ATOMIC_SEQ_CST);
	put(duplicate, own.memory + WAITING * PAGE, pattern(WAITING));
	void *well_there;
	CHECK(pthread_join(waiter, &well_there) == 0 && well_there);

	for (long page = 0; page < PAGES; page++) {
		int is_dirty = page == 7 || (wrote && page == 9), filled = page < PAGES / 2;
		CHECK(is_protected(tracked + page * (long)PAGE) == (filled && !is_dirty), "page %ld", page);
		CHECK(is_present(tracked + page * (long)PAGE) == filled, "page %ld", page);
		char expected = page == 7 ? 'u' : is_dirty ? 'v' : filled ? 't' : 0;
		CHECK(tracked[page * (long)PAGE] == expected, "page %ld", page);
	}
	for (long page = 0; page < PAGES; page++) {
		volatile char *at = shared.memory + page * (long)PAGE;
		char expected = page == 0 ? 's' : page == 4 ? 0 : pattern(page);
		CHECK(is_protected((char *)(uintptr_t)at) == (page >= 2 && page < 6), "page %ld", page);
		CHECK(*at == expected && asked(&shared, page) == (page != 4), "page %ld: %c %d", page, *at, asked(&shared, page));
		*at = 'z';
		// A page that is brought is not protected.
		CHECK(shared.unprotected[page] == (page >= 2 && page < 5), "page %ld: %d", page, shared.unprotected[page]);
		CHECK(page >= PAGES / 2 || view[page * (long)PAGE] == 'z');
	}
	struct uffdio_api api = { .api = UFFD_API };
	MUST(ioctl(spare, UFFDIO_API, &api));
	// New memory, and some that was there, can be registered.
	area(spare, UFFDIO_REGISTER_MODE_MISSING);
	struct uffdio_register neighbour = { .range = { (uintptr_t)own.memory - PAGE, PAGE }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	MUST(ioctl(spare, UFFDIO_REGISTER, &neighbour));

	CHECK(asked(&childs, 0) == 1 && asked(&childs, 1) == 0);
	close(go);
	child_must_be_well(child);
	CHECK(asked(&childs, 0) == 1 && asked(&childs, 5) == 1 && asked(&childs, 1) == 1);
	return well();
}
