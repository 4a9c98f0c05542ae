// Userfaultfds that cannot be saved: `userfaultfd_refused DIRECTORY KIND`.
#include "subject.h"
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>

static char *memory;

static void *call(void *unused)
{
	(void)unused;
	int file = (int)MUST(open("/dev/zero", O_RDONLY | O_CLOEXEC));
	CHECK(read(file, memory, PAGE) == PAGE);
	return NULL;
}

static void *unmap(void *unused)
{
	(void)unused;
	MUST(munmap(memory, PAGE));
	return NULL;
}

static void answer(int fd)
{
	char zeros[PAGE] __attribute__((aligned(PAGE))) = { 0 };
	struct uffd_msg message;
	struct pollfd poller = { .fd = fd, .events = POLLIN };
	do {
		CHECK(poll(&poller, 1, -1) == 1);
	} while (read(fd, &message, sizeof message) != sizeof message);
	struct uffdio_copy copy = { .dst = (uintptr_t)memory, .src = (uintptr_t)zeros, .len = PAGE };
	if (message.event == UFFD_EVENT_PAGEFAULT)
		MUST(ioctl(fd, UFFDIO_COPY, &copy));
	else
		CHECK(message.event == UFFD_EVENT_UNMAP && message.arg.remove.start == (uintptr_t)memory);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	const char *kind = argv[2];
	int is_shared = !strcmp(kind, "shared"), has_ended = !strcmp(kind, "ended");
	int unmaps = !strcmp(kind, "unmapping"), calls = !strcmp(kind, "in-a-call");
	CHECK(is_shared || has_ended || unmaps || calls, "no such kind: %s", kind);
	memory = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | (is_shared ? MAP_SHARED : MAP_PRIVATE), -1, 0);
	CHECK(memory != MAP_FAILED);

	pid_t child = 0;
	int fd;
	if (has_ended) {
		// With its table of descriptors, and not its memory.
		child = (pid_t)MUST(syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0));
		if (child == 0) {
			syscall(SYS_dup3, syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), 873, O_CLOEXEC);
			struct uffdio_api api = { .api = UFFD_API };
			syscall(SYS_exit_group, ioctl(873, UFFDIO_API, &api) != 0);
		}
		child_must_be_well(child);
		fd = 873;
		for (int other = 3; other < fd; other++)
			close(other);
	} else {
		fd = (int)MUST(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
		struct uffdio_api api = { .api = UFFD_API, .features = unmaps ? UFFD_FEATURE_EVENT_UNMAP : is_shared ? UFFD_FEATURE_MINOR_SHMEM : 0 };
		MUST(ioctl(fd, UFFDIO_API, &api));
		struct uffdio_register reg = { .range = { (uintptr_t)memory, 16 * PAGE }, .mode = is_shared ? UFFDIO_REGISTER_MODE_MINOR : UFFDIO_REGISTER_MODE_MISSING };
		MUST(ioctl(fd, UFFDIO_REGISTER, &reg));
	}
	pthread_t thread;
	if (unmaps || calls) {
		CHECK(pthread_create(&thread, NULL, unmaps ? unmap : call, NULL) == 0);
		struct pollfd poller = { .fd = fd, .events = POLLIN };
		CHECK(poll(&poller, 1, -1) == 1);
	}

	ready_and_wait();

	if (unmaps || calls) {
		answer(fd);
		CHECK(pthread_join(thread, NULL) == 0);
	}
	struct uffdio_register again = { .range = { (uintptr_t)memory, 16 * PAGE }, .mode = UFFDIO_REGISTER_MODE_MINOR };
	if (is_shared)
		MUST(ioctl(fd, UFFDIO_REGISTER, &again));
	return well();
}
