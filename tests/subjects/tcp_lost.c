// TCP connections do not come back: the restored program reads what had arrived, then finds them closed. The program
// itself, which has only been saved, keeps them. `restored` tells which of the two it is.
#include "subject.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	int listener = MUST(socket(AF_INET, SOCK_STREAM, 0)), client = MUST(socket(AF_INET, SOCK_STREAM, 0));
	// Without it the connections of the killed program would hold the port for a minute.
	MUST(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)));
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof at;
	MUST(bind(listener, (struct sockaddr *)&at, sizeof at));
	MUST(listen(listener, 1));
	MUST(getsockname(listener, (struct sockaddr *)&at, &length));
	MUST(connect(client, (struct sockaddr *)&at, length));
	int server = MUST(accept(listener, NULL, NULL));
	MUST(send(client, "arrived", 7, 0));
	struct pollfd poll_for = { .fd = server, .events = POLLIN };
	CHECK(poll(&poll_for, 1, 10000) == 1);
	ready_and_wait();
	char text[16] = { 0 };
	CHECK(recv(server, text, sizeof text, MSG_DONTWAIT) == 7 && !strcmp(text, "arrived"), "%s", text);
	if (!told("restored")) {
		MUST(send(server, "still here", 10, 0));
		CHECK(recv(client, text, sizeof text, 0) == 10);
		return well();
	}
	CHECK(recv(server, text, sizeof text, MSG_DONTWAIT) == 0, "not closed");
	ssize_t n = recv(client, text, sizeof text, MSG_DONTWAIT);
	CHECK(n == 0 || (n == -1 && errno == ECONNRESET), "%zd", n);
	// New ones are made as before.
	int again = MUST(socket(AF_INET, SOCK_STREAM, 0));
	MUST(connect(again, (struct sockaddr *)&at, length));
	MUST(send(again, "new", 3, 0));
	int accepted = MUST(accept(listener, NULL, NULL));
	CHECK(recv(accepted, text, 3, MSG_WAITALL) == 3);
	return well();
}
