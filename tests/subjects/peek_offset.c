// Sockets with several messages in each, one of them under way in another: looking at those must not show in what the program's own look finds.
#include "subject.h"
#include <netinet/in.h>
#include <sys/socket.h>

static void internet_pair(int *ends)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof at;
	ends[0] = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
	ends[1] = (int)MUST(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
	MUST(bind(ends[1], (struct sockaddr *)&at, length));
	MUST(getsockname(ends[1], (struct sockaddr *)&at, &length));
	MUST(connect(ends[0], (struct sockaddr *)&at, length));
}

static void fill(int type, int *ends)
{
	if (type)
		MUST(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, ends));
	else
		internet_pair(ends);
	MUST(send(ends[0], "first", 5, 0));
	MUST(send(ends[0], "second", 6, 0));
	MUST(send(ends[0], "third", 5, 0));
}

static void expect(int fd, const char *want, int flags)
{
	char text[64] = { 0 };
	ssize_t n = recv(fd, text, sizeof text - 1, flags);
	CHECK(n == (ssize_t)strlen(want) && !strcmp(text, want), "got %zd bytes: %s; want %s", n, text, want);
}

static void check(int fd)
{
	int offset = 0;
	socklen_t length = sizeof offset;
	MUST(getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, &length));
	CHECK(offset == -1, "SO_PEEK_OFF is %d", offset);
	expect(fd, "first", MSG_PEEK);
	expect(fd, "first", MSG_PEEK);
	expect(fd, "first", 0);
	expect(fd, "second", 0);
	expect(fd, "third", MSG_PEEK);
	expect(fd, "third", 0);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int dgram[2], seq[2], outer[2], inner[2], udp[2];
	fill(SOCK_DGRAM, dgram);
	fill(SOCK_SEQPACKET, seq);
	fill(SOCK_DGRAM, outer);
	fill(SOCK_DGRAM, inner);
	fill(0, udp);
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { "a socket", 8 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &inner[1], sizeof(int));
	MUST(sendmsg(outer[0], &message, 0));
	close(inner[1]); // only under way now
	ready_and_wait();
	check(dgram[1]);
	check(seq[1]);
	check(outer[1]);
	iov.iov_len = 8;
	iov.iov_base = (char[8]){ 0 };
	CHECK(recvmsg(outer[1], &message, 0) == 8);
	memcpy(&inner[1], CMSG_DATA(header), sizeof(int));
	check(inner[1]);
	check(udp[1]);
	return well();
}
