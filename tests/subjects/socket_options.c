// Options of sockets, as getsockopt(2) tells them before and after; and a filter of UDP.
#include "subject.h"
#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>

static const struct {
	int level, name, value;
	char sockets[5]; // t: TCP listening, i: TCP idle, u: UDP, 6: UDP of IPv6
} options[] = {
	{ SOL_SOCKET, SO_KEEPALIVE, 1, "ti" },
	{ SOL_SOCKET, SO_PRIORITY, 5, "tiu6" },
	{ SOL_SOCKET, SO_MARK, 0x77, "tiu6" },
	{ SOL_SOCKET, SO_TIMESTAMP, 1, "t" },
	{ SOL_SOCKET, SO_TIMESTAMPNS, 1, "u" },
	{ SOL_SOCKET, 63 /* SO_TIMESTAMP_NEW */, 1, "6" },
	{ SOL_SOCKET, SO_TIMESTAMPING, SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE, "i" },
	{ SOL_SOCKET, SO_ZEROCOPY, 1, "ti" },
	{ SOL_SOCKET, SO_BUSY_POLL, 40, "tu" },
	{ SOL_SOCKET, SO_PREFER_BUSY_POLL, 1, "u" },
	{ SOL_SOCKET, SO_RXQ_OVFL, 1, "u" },
	{ SOL_SOCKET, SO_NO_CHECK, 1, "u" },
	{ SOL_SOCKET, SO_RCVLOWAT, 7, "t" },
	{ SOL_SOCKET, SO_OOBINLINE, 1, "i" },
	{ IPPROTO_TCP, TCP_USER_TIMEOUT, 12345, "ti" },
	{ IPPROTO_TCP, TCP_MAXSEG, 1000, "ti" },
	{ IPPROTO_TCP, TCP_NODELAY, 1, "t" },
	{ IPPROTO_TCP, TCP_KEEPIDLE, 77, "i" },
	{ IPPROTO_TCP, 34 /* TCP_FASTOPEN_NO_COOKIE */, 1, "t" },
	{ IPPROTO_TCP, 37 /* TCP_TX_DELAY */, 10, "i" },
	{ IPPROTO_IP, IP_TOS, 0x10, "tu" },
	{ IPPROTO_IP, IP_MINTTL, 3, "t" },
	{ IPPROTO_IP, IP_RECVOPTS, 1, "u" },
	{ IPPROTO_IP, IP_RETOPTS, 1, "u" },
	{ IPPROTO_IP, IP_CHECKSUM, 1, "u" },
	{ IPPROTO_IP, IP_RECVFRAGSIZE, 1, "u" },
	{ IPPROTO_IP, IP_UNICAST_IF, 0x01000000, "u" },
	{ IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO, "iu" },
	{ IPPROTO_IPV6, IPV6_RECVRTHDR, 1, "6" },
	{ IPPROTO_IPV6, IPV6_RECVHOPOPTS, 1, "6" },
	{ IPPROTO_IPV6, IPV6_RECVDSTOPTS, 1, "6" },
	{ IPPROTO_IPV6, IPV6_RECVPATHMTU, 1, "6" },
	{ IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 1, "6" },
	{ IPPROTO_IPV6, IPV6_RECVFRAGSIZE, 1, "6" },
	{ IPPROTO_IPV6, 33 /* IPV6_FLOWINFO_SEND */, 1, "6" },
	{ IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, 2 /* IPV6_PREFER_SRC_PUBLIC */, "6" },
	{ IPPROTO_IPV6, IPV6_UNICAST_IF, 0x01000000, "6" },
	{ IPPROTO_IPV6, IPV6_TCLASS, 9, "6" },
	{ IPPROTO_UDP, 101 /* UDP_NO_CHECK6_TX */, 1, "6" },
	{ IPPROTO_UDP, UDP_GRO, 1, "u" },
};
#define OPTIONS (sizeof options / sizeof options[0])

static int get(int fd, int level, int name)
{
	int value[2] = { -1, 0 };
	socklen_t length = sizeof value;
	MUST(getsockopt(fd, level, name, value, &length));
	return value[0];
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	static const char kinds[] = "tiu6";
	int fds[4], before[4][OPTIONS];
	struct sockaddr_in loop = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	fds[0] = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
	fds[1] = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
	fds[2] = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
	fds[3] = socket(AF_INET6, SOCK_DGRAM, 0);
	if (fds[3] < 0)
		not_exercised("IPv6");
	// No operation, twice, and the end.
	unsigned char header[] = { 1, 1, 1, 0 };
	MUST(setsockopt(fds[2], IPPROTO_IP, IP_OPTIONS, header, sizeof header));
	struct sock_filter program[] = { BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 8), BPF_STMT(BPF_RET | BPF_A, 0) };
	struct sock_fprog filter = { 2, program };
	MUST(setsockopt(fds[2], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter));
	for (int s = 0; s < 4; s++)
		for (size_t o = 0; o < OPTIONS && fds[s] >= 0; o++)
			if (strchr(options[o].sockets, kinds[s]) && setsockopt(fds[s], options[o].level, options[o].name, &options[o].value, sizeof(int))) {
				char what[64];
				snprintf(what, sizeof what, "option %d/%d", options[o].level, options[o].name);
				not_exercised(what);
			}
	MUST(bind(fds[0], (struct sockaddr *)&loop, sizeof loop));
	MUST(listen(fds[0], 5));
	for (int s = 0; s < 4; s++)
		for (size_t o = 0; o < OPTIONS && fds[s] >= 0; o++)
			if (strchr(options[o].sockets, kinds[s]))
				before[s][o] = get(fds[s], options[o].level, options[o].name);

	ready_and_wait();

	for (int s = 0; s < 4; s++)
		for (size_t o = 0; o < OPTIONS && fds[s] >= 0; o++)
			if (strchr(options[o].sockets, kinds[s])) {
				int now = get(fds[s], options[o].level, options[o].name);
				CHECK(now == before[s][o], "socket %c, option %d/%d: %d, not %d", kinds[s], options[o].level, options[o].name, now, before[s][o]);
			}
	unsigned char now[40];
	socklen_t length = sizeof now;
	MUST(getsockopt(fds[2], IPPROTO_IP, IP_OPTIONS, now, &length));
	CHECK(length == sizeof header && !memcmp(now, header, sizeof header), "%u bytes", length);
	struct sock_filter got[8];
	length = 8;
	MUST(getsockopt(fds[2], SOL_SOCKET, SO_GET_FILTER, got, &length));
	CHECK(length == 2 && !memcmp(got, program, sizeof program));
	return well();
}
