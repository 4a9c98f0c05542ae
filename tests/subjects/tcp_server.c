// A server whose clients are outside. The test is the client; what it sends comes back, byte for byte, and the program never notices that
// it was away. `half` is a client that has closed its half and still reads.
#include "subject.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	int family = argc > 2 && !strcmp(argv[2], "v6") ? AF_INET6 : AF_INET;
	int listener = MUST(socket(family, SOCK_STREAM, 0));
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr *at = family == AF_INET ? (void *)&v4 : (void *)&v6;
	socklen_t length = family == AF_INET ? sizeof v4 : sizeof v6;
	MUST(bind(listener, at, length));
	MUST(listen(listener, 8));
	MUST(getsockname(listener, at, &length));
	char port[16];
	snprintf(port, sizeof port, "%d", ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port));
	write_file("port", port);
	int idle = MUST(accept(listener, NULL, NULL)), full = MUST(accept(listener, NULL, NULL)), half = MUST(accept(listener, NULL, NULL));
	static char block[1 << 16];
	size_t written = 0;
	// Its client does not read: what is written stays here.
	for (;;) {
		for (unsigned i = 0; i < sizeof block; i++)
			block[i] = (written + i) % 251;
		ssize_t n = send(full, block, sizeof block, MSG_DONTWAIT);
		if (n < 0)
			break;
		written += n;
	}
	struct pollfd end = { .fd = half, .events = POLLRDHUP };
	CHECK(poll(&end, 1, 120000) == 1);
	char total[32];
	snprintf(total, sizeof total, "%zu", written);
	write_file("written", total);
	ready_and_wait();
	// What the client sent before it closed its half, then the end.
	CHECK(recv(half, block, 4, MSG_WAITALL) == 4 && !memcmp(block, "done", 4));
	CHECK(recv(half, block, 1, 0) == 0);
	MUST(send(half, "well", 4, 0));
	close(half);
	MUST(send(full, "end", 3, 0));
	close(full);
	for (;;) {
		ssize_t n = recv(idle, block, sizeof block, 0);
		CHECK(n >= 0);
		if (n == 0)
			break;
		MUST(send(idle, block, n, 0));
	}
	return well();
}
