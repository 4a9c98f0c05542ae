// TCP connections within the program, IPv4 and IPv6: with unread and unsent data both ways, closed on one side, with options, one that
// waits to be accepted. Everything that was written must arrive, once and in order.
#include "subject.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

union name {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static unsigned char text[1 << 16];

// Writes until nothing more fits; the number of bytes.
static size_t stuff(int fd, unsigned seed)
{
	size_t total = 0;
	for (;;) {
		for (unsigned i = 0; i < 4096; i++)
			text[i] = (total + i) * 31 / 7 + seed;
		ssize_t n = send(fd, text, 4096, MSG_DONTWAIT);
		if (n < 0) {
			CHECK(errno == EAGAIN);
			return total;
		}
		total += n;
	}
}

static void drain(int fd, size_t total, unsigned seed)
{
	for (size_t done = 0; done < total;) {
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		CHECK(poll(&wait, 1, 120000) == 1, "nothing more after %zu of %zu", done, total);
		ssize_t n = recv(fd, text, sizeof text, MSG_DONTWAIT);
		CHECK(n > 0, "%zd after %zu of %zu", n, done, total);
		for (ssize_t i = 0; i < n; i++, done++)
			CHECK(text[i] == (unsigned char)(done * 31 / 7 + seed), "byte %zu", done);
	}
}

static void say(int from, int to, const char *what)
{
	size_t n = strlen(what);
	char heard[64] = { 0 };
	MUST(send(from, what, n, 0));
	CHECK(recv(to, heard, n, MSG_WAITALL) == (ssize_t)n && !strcmp(heard, what), "%s", heard);
}

static int value(int fd, int level, int name)
{
	int result = 0;
	socklen_t length = sizeof result;
	MUST(getsockopt(fd, level, name, &result, &length));
	return result;
}

static unsigned char state(int fd)
{
	struct tcp_info info;
	socklen_t length = sizeof info;
	MUST(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length));
	return info.tcpi_state;
}

struct set {
	int family, listener, idle[2], full[2], half[2], over[2], read_shut[2], waiting;
	union name at, names[2][2];
	size_t there, back;
	int segment;
};

static socklen_t size_of(struct set *s)
{
	return s->family == AF_INET ? sizeof s->at.v4 : sizeof s->at.v6;
}

static void connected(struct set *s, int pair[2])
{
	pair[0] = MUST(socket(s->family, SOCK_STREAM, 0));
	MUST(connect(pair[0], &s->at.any, size_of(s)));
	pair[1] = MUST(accept(s->listener, NULL, NULL));
}

static void names(int pair[2], union name names[2])
{
	memset(names, 0, 2 * sizeof *names);
	socklen_t length = sizeof *names;
	MUST(getsockname(pair[0], &names[0].any, &length));
	length = sizeof *names;
	MUST(getpeername(pair[0], &names[1].any, &length));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	struct set sets[2];
	int count = 0;
	for (int i = 0; i < 2; i++) {
		struct set *s = &sets[count];
		memset(s, 0, sizeof *s);
		s->family = s->at.any.sa_family = i ? AF_INET6 : AF_INET;
		if (i)
			s->at.v6.sin6_addr = in6addr_loopback;
		else
			s->at.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		s->listener = MUST(socket(s->family, SOCK_STREAM, 0));
		if (bind(s->listener, &s->at.any, size_of(s)))
			continue;
		count++;
		socklen_t length = size_of(s);
		MUST(listen(s->listener, 8));
		MUST(getsockname(s->listener, &s->at.any, &length));
		connected(s, s->idle);
		connected(s, s->full);
		connected(s, s->half);
		connected(s, s->over);
		connected(s, s->read_shut);
		MUST(setsockopt(s->idle[0], IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)));
		MUST(setsockopt(s->idle[0], IPPROTO_TCP, TCP_USER_TIMEOUT, &(int){ 54321 }, sizeof(int)));
		MUST(setsockopt(s->idle[0], IPPROTO_TCP, TCP_KEEPIDLE, &(int){ 66 }, sizeof(int)));
		MUST(setsockopt(s->idle[0], IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
		MUST(setsockopt(s->idle[1], SOL_SOCKET, SO_KEEPALIVE, &(int){ 1 }, sizeof(int)));
		MUST(setsockopt(s->idle[1], SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)));
		say(s->idle[0], s->idle[1], "before");
		names(s->idle, s->names[0]);
		s->segment = value(s->idle[0], IPPROTO_TCP, TCP_MAXSEG);
		s->there = stuff(s->full[0], 1);
		s->back = stuff(s->full[1], 2);
		// One side has closed its half, with data under way.
		MUST(send(s->half[0], "last words", 10, 0));
		MUST(shutdown(s->half[0], SHUT_WR));
		// The kernel may take its time to acknowledge it.
		while (state(s->half[0]) != TCP_FIN_WAIT2)
			tick();
		// Both sides have closed.
		MUST(shutdown(s->over[0], SHUT_WR));
		MUST(send(s->over[1], "so long", 7, 0));
		MUST(shutdown(s->read_shut[0], SHUT_RD));
		s->waiting = MUST(socket(s->family, SOCK_STREAM, 0));
		MUST(connect(s->waiting, &s->at.any, size_of(s)));
	}
	CHECK(count > 0);
	ready_and_wait();
	for (int i = 0; i < count; i++) {
		struct set *s = &sets[i];
		names(s->idle, s->names[1]);
		CHECK(!memcmp(s->names[0], s->names[1], sizeof s->names[0]));
		say(s->idle[0], s->idle[1], "after");
		say(s->idle[1], s->idle[0], "and back");
		// Of IPv6 the restore takes 8 bytes.
		int segment = value(s->idle[0], IPPROTO_TCP, TCP_MAXSEG);
		CHECK(segment >= s->segment - 8, "segments of %d bytes, were of %d", segment, s->segment);
		CHECK(value(s->idle[0], IPPROTO_TCP, TCP_NODELAY) == 1);
		CHECK(value(s->idle[0], IPPROTO_TCP, TCP_USER_TIMEOUT) == 54321);
		CHECK(value(s->idle[0], IPPROTO_TCP, TCP_KEEPIDLE) == 66);
		CHECK(value(s->idle[1], SOL_SOCKET, SO_KEEPALIVE) == 1);
		CHECK(value(s->idle[1], SOL_SOCKET, SO_REUSEADDR) == 1 && value(s->idle[0], SOL_SOCKET, SO_REUSEADDR) == 0);
		char congestion[16] = { 0 };
		socklen_t length = sizeof congestion;
		MUST(getsockopt(s->idle[0], IPPROTO_TCP, TCP_CONGESTION, congestion, &length));
		CHECK(!strcmp(congestion, "reno"), "%s", congestion);
		drain(s->full[1], s->there, 1);
		drain(s->full[0], s->back, 2);
		say(s->full[0], s->full[1], "on");
		say(s->full[1], s->full[0], "and on");
		// The half that is closed ends; the other goes on.
		CHECK(state(s->half[0]) == TCP_FIN_WAIT2 && state(s->half[1]) == TCP_CLOSE_WAIT, "%d %d", state(s->half[0]), state(s->half[1]));
		CHECK(recv(s->half[1], text, 10, MSG_WAITALL) == 10 && !memcmp(text, "last words", 10));
		CHECK(recv(s->half[1], text, 1, 0) == 0);
		say(s->half[1], s->half[0], "heard");
		CHECK(send(s->half[0], "", 1, 0) == -1 && errno == EPIPE);
		CHECK(recv(s->over[0], text, 7, MSG_WAITALL) == 7);
		MUST(shutdown(s->over[1], SHUT_WR));
		CHECK(recv(s->over[0], text, 1, 0) == 0 && recv(s->over[1], text, 1, 0) == 0);
		CHECK(recv(s->read_shut[0], text, 1, MSG_DONTWAIT) == 0);
		say(s->read_shut[0], s->read_shut[1], "still writes");
		int accepted = MUST(accept(s->listener, NULL, NULL));
		say(s->waiting, accepted, "at last");
	}
	return well();
}
