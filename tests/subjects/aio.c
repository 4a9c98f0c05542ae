// Kernel AIO: contexts under their ids, idle and with events that were not read, one of them with its ring gone round.
#include "subject.h"
#include <linux/aio_abi.h>

static struct iocb requests[64];

static aio_context_t setup(unsigned room)
{
	aio_context_t context = 0;
	MUST(syscall(SYS_io_setup, room, &context));
	return context;
}

static void submit(aio_context_t context, int fd, void *buffer, size_t bytes, uint64_t data)
{
	struct iocb request = { .aio_data = data, .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (uint32_t)fd };
	request.aio_buf = (uint64_t)(uintptr_t)buffer;
	request.aio_nbytes = bytes;
	struct iocb *at = &requests[data % 64];
	*at = request;
	CHECK(MUST(syscall(SYS_io_submit, context, 1, &at)) == 1);
}

static void expect(aio_context_t context, uint64_t data, int64_t result)
{
	struct io_event event;
	struct timespec soon = { .tv_sec = 120 };
	CHECK(MUST(syscall(SYS_io_getevents, context, 1, 1, &event, &soon)) == 1);
	CHECK(event.data == data && event.res == result && event.obj == (uint64_t)(uintptr_t)&requests[data % 64],
	      "data %llu res %lld", (unsigned long long)event.data, (long long)event.res);
}

static void expect_none(aio_context_t context)
{
	struct io_event event;
	struct timespec now = { 0 };
	CHECK(MUST(syscall(SYS_io_getevents, context, 0, 1, &event, &now)) == 0);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	// Each processor has a stock of free requests that the others do not get at: a nearly full ring needs all of them.
	cpu_set_t one;
	MUST(sched_getaffinity(0, sizeof one, &one));
	int cpu = 0;
	while (!CPU_ISSET(cpu, &one))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	MUST(sched_setaffinity(0, sizeof one, &one));
	write_file("data", "some text that is read");
	int file = (int)MUST(open(in_dir("data"), O_RDONLY | O_CLOEXEC)), null = (int)MUST(open("/dev/null", O_RDONLY | O_CLOEXEC));
	static char text[64], direct_text[8192] __attribute__((aligned(4096)));
	aio_context_t idle = setup(1), waiting = setup(100), round_ = setup(300), direct = setup(8);
	for (uint64_t data = 0; data < 5; data++)
		submit(waiting, file, text, 10 + data, data);
	expect(waiting, 0, 10);
	unsigned room = ((unsigned *)(uintptr_t)round_)[1];
	for (uint64_t data = 0; data < room + room / 2; data++) {
		submit(round_, null, text, 1, data);
		expect(round_, data, 0);
	}
	unsigned many = room - 10; // over the end of the ring
	for (uint64_t data = 0; data < many; data++)
		submit(round_, null, text, 1, data);
	int bypass = open(in_dir("data"), O_RDONLY | O_CLOEXEC | O_DIRECT);
	if (bypass >= 0)
		submit(direct, bypass, direct_text, 4096, 7);

	ready_and_wait();

	expect_none(idle);
	submit(idle, file, text, 4, 9);
	expect(idle, 9, 4);
	for (uint64_t data = 1; data < 5; data++)
		expect(waiting, data, (int64_t)(10 + data));
	expect_none(waiting);
	CHECK(!memcmp(text, "some text that", 14));
	for (uint64_t data = 0; data < many; data++)
		expect(round_, data, 0);
	// There is room for as many again, and not for ever more.
	for (int again = 0; again < 3; again++) {
		for (uint64_t data = 0; data < many; data++)
			submit(round_, null, text, 1, data);
		for (uint64_t data = 0; data < many; data++)
			expect(round_, data, 0);
	}
	if (bypass >= 0) {
		expect(direct, 7, 22);
		CHECK(!memcmp(direct_text, "some text", 9));
	}
	for (int at = 0; at < 4; at++)
		MUST(syscall(SYS_io_destroy, (aio_context_t[]){ idle, waiting, round_, direct }[at]));
	CHECK(syscall(SYS_io_destroy, idle) == -1 && errno == EINVAL);
	return well();
}
