// UNIX sockets that listen, by path and in the abstract namespace; bound datagram sockets; a connection not accepted yet.
#include "subject.h"
#include <sys/socket.h>
#include <stddef.h>
#include <sys/un.h>

static socklen_t address(struct sockaddr_un *to, const char *name, int abstract)
{
	memset(to, 0, sizeof *to);
	to->sun_family = AF_UNIX;
	strcpy(to->sun_path + abstract, name);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) + 1);
}

static int bound(int type, const char *name, int abstract)
{
	struct sockaddr_un at;
	int fd = MUST(socket(AF_UNIX, type | SOCK_NONBLOCK, 0));
	MUST(bind(fd, (struct sockaddr *)&at, address(&at, name, abstract)));
	return fd;
}

static int connected(int type, const char *name, int abstract)
{
	struct sockaddr_un at;
	int fd = MUST(socket(AF_UNIX, type, 0));
	MUST(connect(fd, (struct sockaddr *)&at, address(&at, name, abstract)));
	return fd;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	char text[64] = { 0 }, abstract_name[64];
	snprintf(abstract_name, sizeof abstract_name, "ckpt-subject-%d", getpid());
	// Relative: bind takes the name as it is written, and 108 bytes at most.
	MUST(chdir(subject_dir));
	int by_path = bound(SOCK_STREAM, "listener", 0), abstract = bound(SOCK_STREAM, abstract_name, 1), mailbox = bound(SOCK_DGRAM, "mailbox", 0);
	MUST(listen(by_path, 7));
	MUST(listen(abstract, 5));
	MUST(chmod("listener", 0640));
	int waiting = connected(SOCK_STREAM, "listener", 0);
	int writer = connected(SOCK_DGRAM, "mailbox", 0);
	MUST(send(writer, "a letter", 8, 0));
	int unbound = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	ready_and_wait();

	struct stat stat_now;
	MUST(stat("listener", &stat_now));
	CHECK(S_ISSOCK(stat_now.st_mode) && (stat_now.st_mode & 0777) == 0640, "mode %o", stat_now.st_mode);
	int accepted = MUST(accept(by_path, NULL, NULL));
	MUST(send(waiting, "are you there?", 14, 0));
	CHECK(recv(accepted, text, sizeof text, 0) == 14 && !strcmp(text, "are you there?"), "%s", text);
	MUST(send(accepted, "yes", 3, 0));
	CHECK(recv(waiting, text, sizeof text, 0) == 3 && !memcmp(text, "yes", 3));
	for (int i = 0; i < 2; i++) {
		int client = connected(SOCK_STREAM, i ? abstract_name : "listener", i);
		int server = MUST(accept(i ? abstract : by_path, NULL, NULL));
		MUST(send(client, "hi", 2, 0));
		CHECK(recv(server, text, sizeof text, 0) == 2);
		close(client);
		close(server);
	}
	struct sockaddr_un at = { 0 };
	socklen_t length = sizeof at;
	MUST(getsockname(abstract, (struct sockaddr *)&at, &length));
	CHECK(at.sun_path[0] == 0 && !strcmp(at.sun_path + 1, abstract_name));
	CHECK(recv(mailbox, text, sizeof text, 0) == 8 && !memcmp(text, "a letter", 8));
	MUST(send(writer, "another", 7, 0));
	CHECK(recv(mailbox, text, sizeof text, 0) == 7);
	CHECK(fcntl(unbound, F_GETFD) == FD_CLOEXEC);
	struct sockaddr_un to;
	MUST(connect(unbound, (struct sockaddr *)&to, address(&to, abstract_name, 1)));
	return well();
}
