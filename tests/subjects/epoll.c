// epoll sets: what they watch, with data and flags; also duplicated descriptors, other epoll sets, closed numbers.
#include "subject.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static void add(int epoll, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data.u64 = data };
	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

static void expect(int epoll, uint64_t data, uint32_t events)
{
	struct epoll_event event;
	CHECK(epoll_wait(epoll, &event, 1, 1000) == 1, "nothing from the one with data %lx", data);
	CHECK(event.data.u64 == data && event.events == events, "data %lx events %x, want %lx %x", event.data.u64, event.events, data, events);
}

static void expect_nothing(int epoll)
{
	struct epoll_event event;
	int got = epoll_wait(epoll, &event, 1, 0);
	CHECK(got == 0, "data %lx events %x", event.data.u64, event.events);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	uint64_t one = 1;
	int epoll = MUST(epoll_create1(EPOLL_CLOEXEC)), outer = MUST(epoll_create1(0));
	int pipes[2], event = MUST(eventfd(0, EFD_NONBLOCK)), edge = MUST(eventfd(0, EFD_NONBLOCK)), once = MUST(eventfd(0, EFD_NONBLOCK)),
		      renamed = MUST(eventfd(0, EFD_NONBLOCK));
	MUST(pipe2(pipes, O_NONBLOCK));
	add(epoll, pipes[0], EPOLLIN | EPOLLRDHUP, 0x1111222233334444);
	add(epoll, event, EPOLLIN, 0xeeee);
	add(epoll, edge, EPOLLIN | EPOLLET, 0xed6e);
	add(epoll, once, EPOLLIN | EPOLLONESHOT, 0x0ece);
	// Watched under a number that is closed since: the description lives on under another.
	add(epoll, renamed, EPOLLIN, 0x4e4e);
	int elsewhere = MUST(dup(renamed));
	close(renamed);
	// The same description, watched under a second number.
	int second = MUST(dup(event));
	add(epoll, second, EPOLLIN, 0x2222);
	add(outer, epoll, EPOLLIN, 0x0de2);
	// A one-shot that has fired is disarmed.
	MUST(write(once, &one, 8));
	expect(epoll, 0x0ece, EPOLLIN);
	ready_and_wait();

	expect_nothing(epoll);
	expect_nothing(outer);
	MUST(write(pipes[1], "x", 1));
	expect(epoll, 0x1111222233334444, EPOLLIN);
	expect(outer, 0x0de2, EPOLLIN);
	char byte;
	MUST(read(pipes[0], &byte, 1));
	expect_nothing(epoll);
	MUST(write(edge, &one, 8));
	expect(epoll, 0xed6e, EPOLLIN);
	expect_nothing(epoll);
	MUST(write(elsewhere, &one, 8));
	expect(epoll, 0x4e4e, EPOLLIN);
	MUST(read(elsewhere, &one, 8));
	MUST(write(event, &one, 8));
	struct epoll_event events[4];
	CHECK(epoll_wait(epoll, events, 4, 1000) == 2);
	CHECK(events[0].data.u64 + events[1].data.u64 == 0xeeee + 0x2222, "%lx %lx", events[0].data.u64, events[1].data.u64);
	MUST(epoll_ctl(epoll, EPOLL_CTL_DEL, event, NULL));
	MUST(epoll_ctl(epoll, EPOLL_CTL_DEL, second, NULL));
	expect_nothing(epoll);
	CHECK(fcntl(epoll, F_GETFD) == FD_CLOEXEC);
	return well();
}
