// A server that has not set SO_REUSEADDR, with a connection: when it is killed, what is left of the connection holds the port.
#include "subject.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	int listener = MUST(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, now;
	socklen_t length = sizeof at;
	MUST(bind(listener, (void *)&at, sizeof at));
	MUST(listen(listener, 5));
	MUST(getsockname(listener, (void *)&at, &length));
	char port[16];
	snprintf(port, sizeof port, "%d", ntohs(at.sin_port));
	write_file("port", port);
	// The one who connects is the test.
	MUST(accept(listener, NULL, NULL));
	ready_and_wait();
	MUST(getsockname(listener, (void *)&now, &length));
	CHECK(now.sin_port == at.sin_port);
	int reuse;
	length = sizeof reuse;
	MUST(getsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &reuse, &length));
	CHECK(reuse == 0);
	int client = MUST(socket(AF_INET, SOCK_STREAM, 0));
	MUST(connect(client, (void *)&at, sizeof at));
	MUST(accept(listener, NULL, NULL));
	return well();
}
