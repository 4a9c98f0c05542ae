// UDP sockets: bound, unbound, with an address that they are connected to, their options; and what waits to be read.
#include "subject.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	int bound = MUST(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0)), unbound = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, now;
	socklen_t length = sizeof at;
	int one = 1, ttl = 33, value;
	MUST(setsockopt(bound, SOL_SOCKET, SO_BROADCAST, &one, sizeof one));
	MUST(setsockopt(bound, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl));
	MUST(setsockopt(bound, IPPROTO_IP, IP_PKTINFO, &one, sizeof one));
	MUST(bind(bound, (struct sockaddr *)&at, sizeof at));
	MUST(getsockname(bound, (struct sockaddr *)&at, &length));
	ready_and_wait();
	MUST(getsockname(bound, (struct sockaddr *)&now, &length));
	CHECK(now.sin_port == at.sin_port);
	socklen_t four = sizeof value;
	MUST(getsockopt(bound, SOL_SOCKET, SO_BROADCAST, &value, &four));
	CHECK(value == 1);
	MUST(getsockopt(bound, IPPROTO_IP, IP_TTL, &value, &four));
	CHECK(value == ttl);
	MUST(getsockopt(bound, IPPROTO_IP, IP_PKTINFO, &value, &four));
	CHECK(value == 1);
	char text[8];
	CHECK(recv(bound, text, sizeof text, 0) == -1 && errno == EAGAIN);
	MUST(sendto(unbound, "hello", 5, 0, (struct sockaddr *)&at, sizeof at));
	CHECK(recv(bound, text, sizeof text, 0) == 5);
	return well();
}
