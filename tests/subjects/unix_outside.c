// A UNIX connection to a server outside the job: `unix_outside DIRECTORY seqpacket|stream PATH`. A PATH with an @ is abstract. Writes what it finds to the verdict:
// what it reads until the end ("had " and the bytes, " end"), or, once `again` is told, the greeting of a new connection.
#include "subject.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(argv[3]));
	memcpy(at.sun_path, argv[3], strlen(argv[3]));
	if (at.sun_path[0] == '@')
		at.sun_path[0] = 0;
	int fd = (int)MUST(socket(AF_UNIX, !strcmp(argv[2], "stream") ? SOCK_STREAM : SOCK_SEQPACKET, 0));
	MUST(connect(fd, (struct sockaddr *)&at, length));
	char room[64], verdict[128];
	CHECK(MUST(recv(fd, room, 5, MSG_WAITALL)) == 5 && !memcmp(room, "hello", 5));

	ready_and_wait();

	struct sockaddr_un peer;
	if (told("again")) {
		length = sizeof peer;
		MUST(getpeername(fd, (struct sockaddr *)&peer, &length));
		CHECK(!memcmp(peer.sun_path, at.sun_path, strlen(argv[3])));
		CHECK(MUST(recv(fd, room, 5, MSG_WAITALL)) == 5);
		CHECK(MUST(send(fd, "thanks", 6, MSG_NOSIGNAL)) == 6);
		CHECK(MUST(recv(fd, room + 5, 3, MSG_WAITALL)) == 3);
		snprintf(verdict, sizeof verdict, "again %.8s", room);
	} else {
		long had = MUST(recv(fd, room, sizeof room, 0));
		CHECK(recv(fd, room + had, 1, 0) == 0);
		CHECK(send(fd, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
		snprintf(verdict, sizeof verdict, "had %.*s end", (int)had, room);
	}
	write_file("verdict", verdict);
	return 0;
}
