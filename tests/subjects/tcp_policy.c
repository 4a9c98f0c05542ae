// A connection whose client is outside, and what became of it: `abc` has arrived and was not read. Writes what it finds then.
#include "subject.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	int listener = MUST(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof at;
	MUST(bind(listener, (void *)&at, length));
	MUST(listen(listener, 8));
	MUST(getsockname(listener, (void *)&at, &length));
	char text[64];
	snprintf(text, sizeof text, "%d", ntohs(at.sin_port));
	write_file("port", text);
	int client = MUST(accept(listener, NULL, NULL));
	close(listener);
	while (recv(client, text, 3, MSG_PEEK | MSG_WAITALL) < 3)
		;
	ready_and_wait();
	CHECK(recv(client, text, 3, 0) == 3 && !memcmp(text, "abc", 3));
	ssize_t n = recv(client, text, sizeof text, 0);
	write_file("found", n > 0 ? "data" : n == 0 ? "end" : strerrorname_np(errno));
	if (n > 0)
		MUST(send(client, text, n, 0));
	return well();
}
