// io_uring: queues that have gone round, with completions that were not read and a request that was not submitted, registered files and buffers;
// instances that one thread alone may use, that are not enabled yet, and without an array.
#include "subject.h"
#include <linux/io_uring.h>
#include <pthread.h>

#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

struct ring {
	int fd;
	unsigned *head, *tail, *array, *completion_head, *completion_tail, mask, completion_mask;
	struct io_uring_sqe *entries;
	struct io_uring_cqe *completions;
};

static struct ring set_up(unsigned flags, unsigned room)
{
	struct io_uring_params p = { .flags = flags, .cq_entries = flags & IORING_SETUP_CQSIZE ? 4 * room : 0 };
	struct ring ring = { .fd = (int)MUST(syscall(SYS_io_uring_setup, room, &p)) };
	size_t submissions = p.sq_off.array + p.sq_entries * 4, completions = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	size_t size = submissions > completions ? submissions : completions;
	char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
	CHECK(at != MAP_FAILED);
	ring.entries = mmap(NULL, p.sq_entries * 64, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQES);
	CHECK(ring.entries != MAP_FAILED);
	ring.head = (unsigned *)(at + p.sq_off.head), ring.tail = (unsigned *)(at + p.sq_off.tail);
	ring.array = flags & IORING_SETUP_NO_SQARRAY ? NULL : (unsigned *)(at + p.sq_off.array);
	ring.completion_head = (unsigned *)(at + p.cq_off.head), ring.completion_tail = (unsigned *)(at + p.cq_off.tail);
	ring.mask = p.sq_entries - 1, ring.completion_mask = p.cq_entries - 1;
	ring.completions = (struct io_uring_cqe *)(at + p.cq_off.cqes);
	return ring;
}

static struct io_uring_sqe *queue(struct ring *ring, int operation, uint64_t data)
{
	unsigned at = *ring->tail & ring->mask, slot = at;
	if (ring->array) // entries in the order from last to first
		ring->array[at] = slot = ring->mask - at;
	struct io_uring_sqe *entry = &ring->entries[slot];
	*entry = (struct io_uring_sqe){ .opcode = (uint8_t)operation, .fd = -1, .user_data = data };
	__atomic_store_n(ring->tail, *ring->tail + 1, __ATOMIC_RELEASE);
	return entry;
}

static void submit(struct ring *ring, unsigned count)
{
	CHECK(MUST(syscall(SYS_io_uring_enter, ring->fd, count, 0, 0, NULL, 0)) == count);
}

static void expect(struct ring *ring, uint64_t data, int result)
{
	if (__atomic_load_n(ring->completion_tail, __ATOMIC_ACQUIRE) == *ring->completion_head)
		MUST(syscall(SYS_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0));
	unsigned at = *ring->completion_head;
	CHECK(__atomic_load_n(ring->completion_tail, __ATOMIC_ACQUIRE) != at, "no completion %llu", (unsigned long long)data);
	struct io_uring_cqe *completion = &ring->completions[at & ring->completion_mask];
	CHECK(completion->user_data == data && completion->res == result, "%llu: %d; wanted %llu: %d",
	      (unsigned long long)completion->user_data, completion->res, (unsigned long long)data, result);
	__atomic_store_n(ring->completion_head, at + 1, __ATOMIC_RELEASE);
}

static void go_round(struct ring *ring, unsigned times)
{
	for (unsigned at = 0; at < times; at++) {
		queue(ring, IORING_OP_NOP, at);
		submit(ring, 1);
		expect(ring, at, 0);
	}
}

static void check_empty(struct ring *ring)
{
	CHECK(*ring->tail == *ring->head && *ring->completion_head == *ring->completion_tail);
}

static char buffers[3][4096] __attribute__((aligned(4096)));
static int ready;

// The only thread that may use this one.
static void *alone(void *unused)
{
	struct ring ring = set_up(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, 4);
	go_round(&ring, 9);
	queue(&ring, IORING_OP_NOP, 77);
	submit(&ring, 1);
	__atomic_store_n(&ready, ring.fd, __ATOMIC_RELEASE);
	while (!told("go"))
		tick();
	expect(&ring, 77, 0);
	go_round(&ring, 9);
	check_empty(&ring);
	CHECK(*ring.tail == 19, "%u", *ring.tail);
	return unused;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	write_file("data", "some text that is read");
	int file = (int)MUST(open(in_dir("data"), O_RDONLY | O_CLOEXEC));
	pthread_t thread;
	CHECK(!pthread_create(&thread, NULL, alone, NULL));
	while (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE))
		tick();
	struct ring ring = set_up(0, 8), disabled = set_up(IORING_SETUP_R_DISABLED, 8);
	struct ring large = set_up(IORING_SETUP_CQSIZE | IORING_SETUP_NO_SQARRAY, 256);
	int files[4] = { -1, file, -1, (int)MUST(open("/dev/zero", O_RDWR | O_CLOEXEC)) };
	MUST(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES, files, 4));
	struct {
		void *at;
		size_t bytes;
	} places[2] = { { buffers[0], 4096 }, { buffers[1], 8192 } };
	MUST(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, places, 2));
	go_round(&ring, 1003);
	go_round(&large, 1500);
	for (uint64_t data = 0; data < 5; data++)
		queue(&ring, IORING_OP_NOP, data);
	submit(&ring, 5);
	expect(&ring, 0, 0);
	struct io_uring_sqe *entry = queue(&ring, IORING_OP_READ, 100);
	entry->fd = file, entry->addr = (uint64_t)(uintptr_t)buffers[0], entry->len = 9;

	ready_and_wait();

	for (uint64_t data = 1; data < 5; data++)
		expect(&ring, data, 0);
	submit(&ring, 1);
	expect(&ring, 100, 9);
	CHECK(!memcmp(buffers[0], "some text", 9));
	entry = queue(&ring, IORING_OP_READ_FIXED, 101);
	entry->fd = 1, entry->flags = IOSQE_FIXED_FILE, entry->off = 5, entry->buf_index = 1;
	entry->addr = (uint64_t)(uintptr_t)buffers[2], entry->len = 4;
	submit(&ring, 1);
	expect(&ring, 101, 4);
	CHECK(!memcmp(buffers[2], "text", 4));
	entry = queue(&ring, IORING_OP_READ, 102);
	entry->fd = 2, entry->flags = IOSQE_FIXED_FILE, entry->addr = (uint64_t)(uintptr_t)buffers[0], entry->len = 4;
	submit(&ring, 1);
	expect(&ring, 102, -EBADF);
	go_round(&ring, 1003);
	check_empty(&ring);
	CHECK(*ring.tail == 2014, "%u", *ring.tail);
	for (uint64_t data = 0; data < 256; data++)
		queue(&large, IORING_OP_NOP, data);
	submit(&large, 256);
	for (uint64_t data = 0; data < 256; data++)
		expect(&large, data, 0);
	check_empty(&large);
	queue(&disabled, IORING_OP_NOP, 1);
	CHECK(syscall(SYS_io_uring_enter, disabled.fd, 1, 0, 0, NULL, 0) == -1 && errno == EBADFD);
	MUST(syscall(SYS_io_uring_register, disabled.fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0));
	submit(&disabled, 1);
	expect(&disabled, 1, 0);
	CHECK(!pthread_join(thread, NULL));
	return well();
}
