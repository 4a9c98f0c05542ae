// A server in a network namespace of its own, which somebody furnishes.
#include "subject.h"
#include <netinet/in.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	if (argc > 2 && strcmp(argv[2], "own") == 0)
		MUST(unshare(CLONE_NEWNET));
	write_file("unshared", "");
	while (!told("furnished"))
		tick();
	int listener = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	MUST(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)));
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7777)};
	MUST(bind(listener, (void *)&address, sizeof address));
	MUST(listen(listener, 8));
	MUST(fcntl(listener, F_SETFL, O_NONBLOCK));
	write_file("ready", "");
	while (!told("go")) {
		int client = accept(listener, NULL, NULL);
		if (client < 0) {
			CHECK(errno == EAGAIN);
			tick();
			continue;
		}
		CHECK(write(client, "hello", 5) == 5);
		MUST(close(client));
	}
	return well();
}
