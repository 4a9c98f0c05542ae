// A buffer that is registered with io_uring: the kernel writes there without a fault, also when nobody has written since the last checkpoint.
#include "subject.h"
#include <linux/io_uring.h>

#define SIZE (64 * PAGE)

int main(int argc, char **argv)
{
	begin(argc, argv);
	int file = (int)MUST(open(in_dir("data"), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
	char *buffer = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(buffer, 'a', SIZE);
	CHECK(MUST(pwrite(file, buffer, SIZE, 0)) == SIZE);
	memset(buffer, 'b', SIZE);
	struct io_uring_params p = { 0 };
	int fd = (int)MUST(syscall(SYS_io_uring_setup, 4, &p));
	char *rings = mmap(NULL, p.cq_off.cqes + p.cq_entries * 16 + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING);
	struct io_uring_sqe *entry = mmap(NULL, p.sq_entries * 64, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES);
	struct {
		void *at;
		size_t bytes;
	} place = { buffer, SIZE };
	MUST(syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &place, 1));
	unsigned *tail = (unsigned *)(rings + p.sq_off.tail), *array = (unsigned *)(rings + p.sq_off.array);
	write_file("ready", "");
	char wanted = 'b';
	while (!told("go")) {
		if (wanted == 'b' && told("fill")) {
			array[*tail & (p.sq_entries - 1)] = 0;
			*entry = (struct io_uring_sqe){ .opcode = IORING_OP_READ_FIXED, .fd = file, .addr = (uint64_t)(uintptr_t)buffer, .len = SIZE };
			__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
			MUST(syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0));
			struct io_uring_cqe *completion = (struct io_uring_cqe *)(rings + p.cq_off.cqes);
			CHECK(completion->res == (int)SIZE, "%d", completion->res);
			__atomic_store_n((unsigned *)(rings + p.cq_off.head), 1, __ATOMIC_RELEASE);
			wanted = 'a';
			write_file("filled", "");
		}
		tick();
	}
	for (size_t at = 0; at < SIZE; at++)
		CHECK(buffer[at] == wanted, "%c in place of %c in page %zu", buffer[at], wanted, at / PAGE);
	return well();
}
