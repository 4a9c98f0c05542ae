// Names of UNIX sockets that lead elsewhere by now or nowhere, and datagram sockets connected to those who are not connected back.
#include "subject.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un named(const char *name)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	CHECK(strlen(name) < sizeof at.sun_path, "%s", name);
	strcpy(at.sun_path, name);
	return at;
}

static int new_socket(int type)
{
	return (int)MUST(socket(AF_UNIX, type, 0));
}

static int bound(int type, const char *name)
{
	struct sockaddr_un at = named(name);
	int fd = new_socket(type);
	MUST(bind(fd, (struct sockaddr *)&at, sizeof at));
	return fd;
}

static int connect_to(int fd, const char *name)
{
	struct sockaddr_un at = named(name);
	MUST(connect(fd, (struct sockaddr *)&at, sizeof at));
	return fd;
}

static void must_be_named(int fd, const char *name)
{
	struct sockaddr_un at = { 0 };
	socklen_t length = sizeof at;
	MUST(getsockname(fd, (struct sockaddr *)&at, &length));
	CHECK(!strcmp(at.sun_path, name), "%s, not %s", at.sun_path, name);
}

static void must_be_connected_to(int fd, const char *name)
{
	struct sockaddr_un at = { 0 };
	socklen_t length = sizeof at;
	MUST(getpeername(fd, (struct sockaddr *)&at, &length));
	CHECK(!strcmp(at.sun_path, name), "%s, not %s", at.sun_path, name);
}

static void must_reach(int from, int to, const char *what)
{
	char text[64] = { 0 };
	MUST(send(from, what, strlen(what), 0));
	CHECK(recv(to, text, sizeof text, MSG_DONTWAIT) == (ssize_t)strlen(what) && !strcmp(text, what), "%s", text);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	MUST(chdir(subject_dir));
	// Connected to itself.
	int self = connect_to(bound(SOCK_DGRAM, "self"), "self");
	MUST(send(self, "before", 6, 0));
	// A chain: each takes datagrams from nobody but him to whom it is connected.
	int last = bound(SOCK_DGRAM, "last"), middle = bound(SOCK_DGRAM, "middle"), first = connect_to(new_socket(SOCK_DGRAM), "middle");
	connect_to(middle, "last");
	// Removed, twice under one name, the third is there; the directory of another is gone.
	int ghosts[2], clients[2];
	for (int i = 0; i < 2; i++) {
		ghosts[i] = bound(SOCK_DGRAM, "ghost");
		clients[i] = connect_to(new_socket(SOCK_DGRAM), "ghost");
		MUST(unlink("ghost"));
	}
	MUST(send(clients[0], "waits", 5, 0));
	int third = bound(SOCK_DGRAM, "ghost");
	char *homeless_name = strdup(in_dir("home/ghost"));
	MUST(mkdir("home", 0700));
	int homeless = bound(SOCK_DGRAM, homeless_name), visitor = connect_to(new_socket(SOCK_DGRAM), homeless_name);
	MUST(unlink(homeless_name));
	MUST(rmdir("home"));
	int pair[2];
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	struct sockaddr_un at = named("ghost-pair");
	for (int i = 0; i < 2; i++) {
		MUST(bind(pair[i], (struct sockaddr *)&at, sizeof at));
		MUST(unlink("ghost-pair"));
	}
	// A listener whose file is gone, with a connection, and one that its client has closed.
	int listener = bound(SOCK_STREAM, "listener");
	MUST(listen(listener, 3));
	int client = connect_to(new_socket(SOCK_STREAM), "listener"), server = (int)MUST(accept(listener, NULL, NULL));
	int gone = connect_to(new_socket(SOCK_STREAM), "listener"), widow = (int)MUST(accept(listener, NULL, NULL));
	close(gone);
	MUST(unlink("listener"));
	// Files that have other names now, one that is relative to where the program is no more.
	char *old_name = strdup(in_dir("old"));
	int renamed = bound(SOCK_DGRAM, old_name), relative = bound(SOCK_DGRAM, "relative"), moved = bound(SOCK_DGRAM, "moved");
	MUST(rename("old", "new"));
	MUST(rename("moved", "moved-away"));
	MUST(chmod("new", 0640));
	MUST(chdir("/"));

	ready_and_wait();

	char text[64];
	CHECK(recv(self, text, sizeof text, MSG_DONTWAIT) == 6);
	must_reach(self, self, "myself");
	must_be_named(self, "self");
	must_be_connected_to(first, "middle");
	must_reach(middle, last, "middle");
	CHECK(recv(ghosts[0], text, sizeof text, MSG_DONTWAIT) == 5);
	for (int i = 0; i < 2; i++) {
		must_be_named(ghosts[i], "ghost");
		must_reach(clients[i], ghosts[i], i ? "second" : "first");
		must_be_named(pair[i], "ghost-pair");
		must_reach(pair[i], pair[1 - i], "pair");
	}
	must_be_named(homeless, homeless_name);
	must_reach(visitor, homeless, "visit");
	CHECK(access(in_dir("home"), F_OK) != 0 && access(in_dir("listener"), F_OK) != 0 && access(in_dir("ghost-pair"), F_OK) != 0);
	must_reach(client, server, "client");
	must_reach(server, client, "server");
	must_be_named(listener, "listener");
	must_be_named(server, "listener");
	must_be_named(widow, "listener");
	CHECK(recv(widow, text, sizeof text, 0) == 0);
	must_be_named(renamed, old_name);
	must_be_named(relative, "relative");
	must_be_named(moved, "moved");
	struct stat now;
	MUST(stat(in_dir("new"), &now));
	CHECK(S_ISSOCK(now.st_mode) && (now.st_mode & 0777) == 0640 && access(in_dir("old"), F_OK) != 0);
	MUST(chdir(subject_dir));
	must_reach(connect_to(new_socket(SOCK_DGRAM), "new"), renamed, "by its new name");
	must_reach(connect_to(new_socket(SOCK_DGRAM), "relative"), relative, "by its name");
	must_reach(connect_to(new_socket(SOCK_DGRAM), "moved-away"), moved, "where it is now");
	must_reach(connect_to(new_socket(SOCK_DGRAM), "ghost"), third, "the third");
	return well();
}
