// Listening TCP sockets with their options, on IPv4 and IPv6; bound and unbound ones that do not listen.
#include "subject.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static const struct option {
	int level, name, value;
} options[] = {
	{ SOL_SOCKET, SO_REUSEADDR, 1 },    { SOL_SOCKET, SO_REUSEPORT, 1 },   { SOL_SOCKET, SO_KEEPALIVE, 1 },
	{ SOL_SOCKET, SO_PRIORITY, 3 },	    { SOL_SOCKET, SO_OOBINLINE, 1 },   { IPPROTO_TCP, TCP_NODELAY, 1 },
	{ IPPROTO_TCP, TCP_KEEPIDLE, 77 },  { IPPROTO_TCP, TCP_KEEPINTVL, 7 }, { IPPROTO_TCP, TCP_KEEPCNT, 5 },
	{ IPPROTO_TCP, TCP_DEFER_ACCEPT, 3 }, { IPPROTO_TCP, TCP_USER_TIMEOUT, 12345 }, { IPPROTO_TCP, TCP_FASTOPEN, 17 },
};
#define OPTIONS (sizeof options / sizeof *options)

static void check_accepts(int listener, int family, uint16_t port)
{
	int client = MUST(socket(family, SOCK_STREAM, 0));
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	MUST(family == AF_INET ? connect(client, (void *)&v4, sizeof v4) : connect(client, (void *)&v6, sizeof v6));
	MUST(send(client, "hello", 5, 0));
	int server = MUST(accept(listener, NULL, NULL));
	char text[8];
	CHECK(recv(server, text, 5, MSG_WAITALL) == 5);
	// The client closes first, so that no TIME_WAIT holds the listener's port against the restore.
	struct linger now = { 1, 0 };
	setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(client);
	close(server);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int v4 = MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), v6 = MUST(socket(AF_INET6, SOCK_STREAM, 0)),
	    bound = MUST(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)), unbound = MUST(socket(AF_INET, SOCK_STREAM, 0));
	for (unsigned i = 0; i < OPTIONS; i++)
		MUST(setsockopt(v4, options[i].level, options[i].name, &options[i].value, sizeof(int)));
	struct linger linger = { 1, 9 }, linger_now;
	MUST(setsockopt(v4, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
	int one = 1;
	MUST(setsockopt(v6, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one));
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 any6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	socklen_t length = sizeof any;
	MUST(bind(v4, (struct sockaddr *)&any, sizeof any));
	MUST(listen(v4, 33));
	MUST(getsockname(v4, (struct sockaddr *)&any, &length));
	uint16_t port = ntohs(any.sin_port);
	int has_v6 = bind(v6, (struct sockaddr *)&any6, sizeof any6) == 0;
	uint16_t port6 = 0;
	if (has_v6) {
		MUST(listen(v6, 5));
		length = sizeof any6;
		MUST(getsockname(v6, (struct sockaddr *)&any6, &length));
		port6 = ntohs(any6.sin6_port);
	}
	any.sin_port = 0;
	MUST(bind(bound, (struct sockaddr *)&any, sizeof any));
	length = sizeof any;
	MUST(getsockname(bound, (struct sockaddr *)&any, &length));
	uint16_t bound_port = any.sin_port;
	ready_and_wait();

	int accepting, value;
	for (unsigned i = 0; i < OPTIONS; i++) {
		length = sizeof value;
		MUST(getsockopt(v4, options[i].level, options[i].name, &value, &length));
		CHECK(value == options[i].value, "option %d of level %d is %d, was %d", options[i].name, options[i].level, value, options[i].value);
	}
	length = sizeof linger_now;
	MUST(getsockopt(v4, SOL_SOCKET, SO_LINGER, &linger_now, &length));
	CHECK(linger_now.l_onoff == 1 && linger_now.l_linger == 9);
	length = sizeof accepting;
	MUST(getsockopt(v4, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &length));
	CHECK(accepting == 1);
	CHECK(fcntl(v4, F_GETFD) == FD_CLOEXEC && (fcntl(bound, F_GETFL) & O_NONBLOCK));
	check_accepts(v4, AF_INET, port);
	if (has_v6)
		check_accepts(v6, AF_INET6, port6);
	length = sizeof any;
	MUST(getsockname(bound, (struct sockaddr *)&any, &length));
	CHECK(any.sin_port == bound_port, "port %d, was %d", ntohs(any.sin_port), ntohs(bound_port));
	MUST(listen(bound, 1));
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	MUST(connect(unbound, (struct sockaddr *)&to, sizeof to));
	return well();
}
