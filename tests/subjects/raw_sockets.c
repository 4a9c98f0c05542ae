// Raw sockets of IPv4 and IPv6, sockets for ICMP echo, UDP-Lite; their options, addresses and filters; and that packets still arrive.
#include "subject.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <sys/socket.h>

#define ICMP_FILTER 1
#define UDPLITE_SEND_CSCOV 10
#define UDPLITE_RECV_CSCOV 11

static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t length = sizeof value;
	MUST(getsockopt(fd, level, name, &value, &length));
	return value;
}

static void set(int fd, int level, int name, int value)
{
	MUST(setsockopt(fd, level, name, &value, sizeof value));
}

static int echo(int fd, const struct sockaddr_in *to, char *answer, size_t room)
{
	struct icmphdr request = { .type = ICMP_ECHO, .un.echo.sequence = htons(5) };
	if (to)
		MUST(sendto(fd, &request, sizeof request, 0, (const struct sockaddr *)to, sizeof *to));
	else
		MUST(send(fd, &request, sizeof request, 0));
	return (int)MUST(recv(fd, answer, room, 0));
}

static void allow_ping(void)
{
	int fd = (int)MUST(open("/proc/sys/net/ipv4/ping_group_range", O_WRONLY | O_CLOEXEC));
	MUST(write(fd, "0 2147483647", 12));
	close(fd);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	allow_ping();
	struct sockaddr_in loop = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, name;
	struct sockaddr_in6 loop6 = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
	struct timeval patience = { .tv_sec = 120 };
	int icmp = (int)MUST(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)), other = (int)MUST(socket(AF_INET, SOCK_RAW, 253));
	int whole = (int)MUST(socket(AF_INET, SOCK_RAW, IPPROTO_RAW)), ping = (int)MUST(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
	int six = socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
	int lite = (int)MUST(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE));
	if (six < 0)
		not_exercised("raw sockets of IPv6");
	MUST(setsockopt(icmp, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
	MUST(setsockopt(ping, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
	MUST(setsockopt(lite, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
	set(icmp, SOL_RAW, ICMP_FILTER, ~(1 << ICMP_ECHOREPLY));
	set(icmp, IPPROTO_IP, IP_RECVOPTS, 1);
	MUST(bind(other, (struct sockaddr *)&loop, sizeof loop));
	set(other, IPPROTO_IP, IP_HDRINCL, 1);
	MUST(connect(other, (struct sockaddr *)&loop, sizeof loop));
	struct sock_filter program[] = { BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0), BPF_STMT(BPF_RET | BPF_A, 0) };
	struct sock_fprog filter = { 2, program };
	MUST(setsockopt(other, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter));
	struct icmp6_filter filter6;
	ICMP6_FILTER_SETBLOCKALL(&filter6);
	ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &filter6);
	if (six >= 0) {
		MUST(setsockopt(six, IPPROTO_ICMPV6, ICMP6_FILTER, &filter6, sizeof filter6));
		set(six, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9);
		MUST(connect(six, (struct sockaddr *)&loop6, sizeof loop6));
	}
	char room[256];
	set(ping, IPPROTO_IP, IP_TTL, 17);
	CHECK(echo(ping, &loop, room, sizeof room) == 8);
	MUST(connect(ping, (struct sockaddr *)&loop, sizeof loop));
	set(lite, IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, 8);
	set(lite, IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV, 8);
	MUST(bind(lite, (struct sockaddr *)&loop, sizeof loop));
	// The echo's answer came to the raw socket, too.
	CHECK(MUST(recv(icmp, room, sizeof room, 0)) == 28);
	socklen_t length = sizeof name;
	MUST(getsockname(ping, (struct sockaddr *)&name, &length));
	uint16_t port = name.sin_port;

	ready_and_wait();

	CHECK(option(icmp, SOL_RAW, ICMP_FILTER) == ~(1 << ICMP_ECHOREPLY) && option(icmp, IPPROTO_IP, IP_RECVOPTS) == 1);
	CHECK(option(icmp, IPPROTO_IP, IP_HDRINCL) == 0 && option(other, IPPROTO_IP, IP_HDRINCL) == 1 && option(whole, IPPROTO_IP, IP_HDRINCL) == 1);
	MUST(getsockname(other, (struct sockaddr *)&name, &length));
	CHECK(name.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
	struct sock_filter got[8];
	socklen_t blocks = 8;
	MUST(getsockopt(other, SOL_SOCKET, SO_GET_FILTER, got, &blocks));
	CHECK(blocks == 2 && !memcmp(got, program, sizeof program));
	MUST(getsockname(ping, (struct sockaddr *)&name, &length));
	CHECK(name.sin_port == port && option(ping, IPPROTO_IP, IP_TTL) == 17);
	CHECK(echo(ping, NULL, room, sizeof room) == 8 && ((struct icmphdr *)room)->un.echo.id == port);
	CHECK(MUST(recv(icmp, room, sizeof room, 0)) == 28);
	// A whole packet of protocol 253, to the address that it is connected to.
	struct iphdr *head = (struct iphdr *)room;
	memset(room, 0, sizeof room);
	*head = (struct iphdr){ .ihl = 5, .version = 4, .ttl = 9, .protocol = 253, .saddr = loop.sin_addr.s_addr, .daddr = loop.sin_addr.s_addr };
	MUST(setsockopt(other, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
	CHECK(MUST(send(other, room, 24, 0)) == 24);
	CHECK(MUST(recv(other, room, sizeof room, 0)) == 24);
	if (six >= 0) {
		struct icmp6_filter now;
		length = sizeof now;
		MUST(getsockopt(six, IPPROTO_ICMPV6, ICMP6_FILTER, &now, &length));
		CHECK(!memcmp(&now, &filter6, sizeof now) && option(six, IPPROTO_IPV6, IPV6_UNICAST_HOPS) == 9);
		struct icmp6_hdr request = { .icmp6_type = ICMP6_ECHO_REQUEST };
		MUST(setsockopt(six, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
		if (send(six, &request, sizeof request, 0) == sizeof request)
			CHECK(MUST(recv(six, room, sizeof room, 0)) == 8 && room[0] == (char)ICMP6_ECHO_REPLY);
		else
			not_exercised("packets of IPv6");
	}
	CHECK(option(lite, IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV) == 8 && option(lite, IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV) == 8);
	length = sizeof name;
	MUST(getsockname(lite, (struct sockaddr *)&name, &length));
	MUST(connect(lite, (struct sockaddr *)&name, sizeof name));
	MUST(send(lite, "lite", 4, 0));
	CHECK(MUST(recv(lite, room, sizeof room, 0)) == 4);
	return well();
}
