// UDP datagrams that nobody has read: from several senders, of many lengths, also to a connected socket, to several sockets with one
// address, and with what the socket asks to be told beside the data. IPv4 and IPv6.
#include "subject.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

union name {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static socklen_t loopback(int family, union name *at)
{
	*at = (union name){ 0 };
	at->any.sa_family = family;
	if (family == AF_INET) {
		at->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof at->v4;
	}
	at->v6.sin6_addr = in6addr_loopback;
	return sizeof at->v6;
}

static int bound(int family, int shared, union name *at)
{
	int fd = MUST(socket(family, SOCK_DGRAM, 0));
	socklen_t length = family == AF_INET ? sizeof at->v4 : sizeof at->v6;
	if (shared)
		MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)));
	MUST(bind(fd, &at->any, length));
	MUST(getsockname(fd, &at->any, &length));
	return fd;
}

static const size_t lengths[] = { 5, 1, 60000, 1400 };
#define COUNT (sizeof lengths / sizeof *lengths)
static unsigned char bytes[65536], text[65536];

static void send_all(int from, union name *to)
{
	for (unsigned i = 0; i < COUNT; i++)
		MUST(sendto(from, bytes + i, lengths[i], 0, &to->any, to->any.sa_family == AF_INET ? sizeof to->v4 : sizeof to->v6));
}

static void receive_all(int fd, union name *from)
{
	for (unsigned i = 0; i < COUNT; i++) {
		union name sender = { 0 };
		socklen_t length = sizeof sender;
		ssize_t n = recvfrom(fd, text, sizeof text, MSG_DONTWAIT, &sender.any, &length);
		CHECK(n == (ssize_t)lengths[i], "datagram %u has %zd bytes, had %zu", i, n, lengths[i]);
		CHECK(!memcmp(text, bytes + i, n), "datagram %u", i);
		CHECK(sender.any.sa_family == from->any.sa_family && sender.v4.sin_port == from->v4.sin_port, "sender of %u", i);
		if (sender.any.sa_family == AF_INET)
			CHECK(sender.v4.sin_addr.s_addr == from->v4.sin_addr.s_addr);
		else
			CHECK(!memcmp(&sender.v6.sin6_addr, &from->v6.sin6_addr, 16));
	}
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	for (unsigned i = 0; i < sizeof bytes; i++)
		bytes[i] = i * 7 + i / 251;
	struct {
		int family, one, two, connected, twin[2], asking;
		union name one_at, two_at, connected_at, twin_at, asking_at;
	} sets[2] = { { .family = AF_INET }, { .family = AF_INET6 } };
	int count = 0;
	for (int i = 0; i < 2; i++) {
		typeof(*sets) *s = sets + count;
		s->family = sets[i].family;
		union name probe;
		int fd = MUST(socket(s->family, SOCK_DGRAM, 0));
		socklen_t length = loopback(s->family, &probe);
		int there = bind(fd, &probe.any, length) == 0;
		close(fd);
		if (!there)
			continue;
		count++;
		loopback(s->family, &s->one_at), loopback(s->family, &s->two_at), loopback(s->family, &s->connected_at);
		loopback(s->family, &s->twin_at);
		s->one = bound(s->family, 0, &s->one_at), s->two = bound(s->family, 0, &s->two_at);
		s->connected = bound(s->family, 0, &s->connected_at);
		// Its queue has what came from two before it was connected to one.
		send_all(s->one, &s->connected_at);
		send_all(s->two, &s->connected_at);
		MUST(connect(s->connected, &s->two_at.any, length));
		send_all(s->two, &s->connected_at);
		// Two sockets with one address: the kernel picks one for each datagram.
		s->twin[0] = bound(s->family, 1, &s->twin_at);
		send_all(s->one, &s->twin_at);
		s->twin[1] = bound(s->family, 1, &s->twin_at);
		send_all(s->two, &s->twin_at);
		// One with any address asks where a datagram was sent to, and through how many hops.
		s->asking_at = (union name){ .any.sa_family = s->family };
		s->asking = bound(s->family, 0, &s->asking_at);
		int one = 1;
		if (s->family == AF_INET) {
			MUST(setsockopt(s->asking, IPPROTO_IP, IP_PKTINFO, &one, sizeof one));
			MUST(setsockopt(s->asking, IPPROTO_IP, IP_RECVTTL, &one, sizeof one));
			MUST(setsockopt(s->one, IPPROTO_IP, IP_TTL, &(int){ 17 }, sizeof(int)));
			s->asking_at.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 6);
		} else {
			MUST(setsockopt(s->asking, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof one));
			MUST(setsockopt(s->asking, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &one, sizeof one));
			MUST(setsockopt(s->one, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &(int){ 17 }, sizeof(int)));
			s->asking_at.v6.sin6_addr = in6addr_loopback;
		}
		// An empty one at the head. The kernel shows no other twice.
		MUST(sendto(s->one, "", 0, 0, &s->asking_at.any, length));
		send_all(s->one, &s->asking_at);
	}
	ready_and_wait();
	for (int i = 0; i < count; i++) {
		typeof(*sets) *s = sets + i;
		receive_all(s->connected, &s->one_at);
		receive_all(s->connected, &s->two_at);
		receive_all(s->connected, &s->two_at);
		int first = 0;
		CHECK(ioctl(s->twin[0], FIONREAD, &first) == 0 && first == 5);
		receive_all(s->twin[0], &s->one_at);
		// Of two with one address, a kernel may as well have chosen the older one.
		struct pollfd second = { .fd = s->twin[1], .events = POLLIN };
		receive_all(poll(&second, 1, 0) == 1 ? s->twin[1] : s->twin[0], &s->two_at);
		CHECK(recv(s->asking, text, sizeof text, MSG_DONTWAIT) == 0);
		for (unsigned n = 0; n < COUNT; n++) {
			char control[256];
			struct iovec part = { text, sizeof text };
			struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
			CHECK(recvmsg(s->asking, &message, MSG_DONTWAIT) == (ssize_t)lengths[n], "datagram %u", n);
			int asked = 0;
			for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
				if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
					asked += ((struct in_pktinfo *)CMSG_DATA(c))->ipi_addr.s_addr == s->asking_at.v4.sin_addr.s_addr;
				else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
					asked += !memcmp(&((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_addr, &in6addr_loopback, 16);
				else
					asked += *(int *)CMSG_DATA(c) == 17;
			}
			CHECK(asked == 2, "of datagram %u %d things are known", n, asked);
		}
		// New ones arrive as before.
		send_all(s->one, &s->asking_at);
		CHECK(recv(s->asking, text, sizeof text, 0) == 5);
		MUST(send(s->connected, "hello", 5, 0));
		CHECK(recv(s->two, text, sizeof text, MSG_DONTWAIT) == 5);
	}
	return well();
}
