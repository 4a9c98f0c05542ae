// Connected UNIX sockets of each type, with what waits in them: bytes, message boundaries, ends shut down, options.
#include "subject.h"
#include <sys/socket.h>
#include <sys/un.h>

static void pair(int type, int *ends)
{
	MUST(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, ends));
}

static void expect(int fd, const char *want)
{
	char text[256] = { 0 };
	ssize_t n = recv(fd, text, sizeof text - 1, 0);
	CHECK(n == (ssize_t)strlen(want) && !strcmp(text, want), "got %zd bytes: %s; want %s", n, text, want);
}

static void expect_nothing(int fd)
{
	char byte;
	CHECK(recv(fd, &byte, 1, 0) == -1 && errno == EAGAIN);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	static char big[100000], got[100000];
	int stream[2], dgram[2], seq[2], half[2], orphan[2], large[2];
	pair(SOCK_STREAM, stream);
	MUST(send(stream[0], "one", 3, 0));
	MUST(send(stream[0], "two", 3, 0));
	MUST(send(stream[1], "back", 4, 0));
	pair(SOCK_DGRAM, dgram);
	MUST(send(dgram[0], "first", 5, 0));
	MUST(send(dgram[0], "second", 6, 0));
	MUST(send(dgram[1], "", 0, 0));
	MUST(send(dgram[1], "after an empty one", 18, 0));
	pair(SOCK_SEQPACKET, seq);
	MUST(send(seq[1], "packet 1", 8, 0));
	MUST(send(seq[1], "packet 2", 8, 0));
	pair(SOCK_STREAM, half);
	MUST(send(half[0], "before", 6, 0));
	MUST(shutdown(half[0], SHUT_WR));
	pair(SOCK_STREAM, orphan);
	MUST(send(orphan[1], "testament", 9, 0));
	close(orphan[1]);
	pair(SOCK_STREAM, large);
	for (unsigned i = 0; i < sizeof big; i++)
		big[i] = (char)(i * 2654435761u >> 24);
	int buffer = 200000, passcred = 1;
	MUST(setsockopt(large[0], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer));
	CHECK(send(large[0], big, sizeof big, 0) == sizeof big);
	struct timeval timeout = { .tv_sec = 9 };
	MUST(setsockopt(seq[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
	MUST(setsockopt(dgram[1], SOL_SOCKET, SO_PASSCRED, &passcred, sizeof passcred));
	int sndbuf;
	socklen_t length = sizeof sndbuf;
	MUST(getsockopt(large[0], SOL_SOCKET, SO_SNDBUF, &sndbuf, &length));
	ready_and_wait();

	expect(stream[1], "onetwo");
	expect(stream[0], "back");
	expect_nothing(stream[1]);
	MUST(send(stream[0], "on", 2, 0));
	expect(stream[1], "on");
	MUST(setsockopt(dgram[1], SOL_SOCKET, SO_PASSCRED, &(int){ 0 }, sizeof(int)));
	expect(dgram[1], "first");
	expect(dgram[1], "second");
	expect(dgram[0], "");
	expect(dgram[0], "after an empty one");
	expect_nothing(dgram[1]);
	expect(seq[0], "packet 1");
	expect(seq[0], "packet 2");
	expect_nothing(seq[0]);
	expect(half[1], "before");
	expect(half[1], "");
	CHECK(send(half[0], "x", 1, 0) == -1 && errno == EPIPE);
	CHECK(send(half[1], "y", 1, 0) == 1);
	expect(half[0], "y");
	expect(orphan[0], "testament");
	expect(orphan[0], "");
	CHECK(send(orphan[0], "x", 1, 0) == -1 && errno == EPIPE);
	size_t have = 0;
	for (ssize_t n; have < sizeof got && (n = recv(large[1], got + have, sizeof got - have, 0)) > 0;)
		have += (size_t)n;
	CHECK(have == sizeof got && !memcmp(big, got, sizeof big), "%zu bytes", have);
	int now;
	MUST(getsockopt(large[0], SOL_SOCKET, SO_SNDBUF, &now, &length));
	CHECK(now == sndbuf, "SO_SNDBUF %d, was %d", now, sndbuf);
	length = sizeof timeout;
	MUST(getsockopt(seq[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, &length));
	CHECK(timeout.tv_sec == 9 && timeout.tv_usec == 0);
	struct ucred creds;
	length = sizeof creds;
	MUST(getsockopt(stream[0], SOL_SOCKET, SO_PEERCRED, &creds, &length));
	CHECK(creds.pid == getpid() && creds.uid == getuid());
	return well();
}
