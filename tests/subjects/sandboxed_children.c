// Children in network and UTS namespaces that their parent is not in, with the same addresses and names in use on both sides.
#include "subject.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SERVER 7781
#define CLIENT 7782
#define EARLY 7783

static struct sockaddr_in at(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return address;
}

static int bound(int type, int port)
{
	int fd = (int)MUST(socket(AF_INET, type | SOCK_CLOEXEC, 0));
	MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)));
	struct sockaddr_in address = at(port);
	MUST(bind(fd, (void *)&address, sizeof address));
	return fd;
}

static struct sockaddr_un name(socklen_t *length)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path, "\0ckpt-place", 11);
	*length = offsetof(struct sockaddr_un, sun_path) + 11;
	return address;
}

// What a side has: each has the same, and its own.
struct side {
	int listener, client, server, udp, local, local_client, local_server;
	char word[8];
};

static void loopback_up(void)
{
	int fd = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
	struct ifreq request = {.ifr_name = "lo"};
	MUST(ioctl(fd, SIOCGIFFLAGS, &request));
	request.ifr_flags |= IFF_UP;
	MUST(ioctl(fd, SIOCSIFFLAGS, &request));
	close(fd);
}

static struct side make(const char *word)
{
	struct side side = {0};
	strcpy(side.word, word);
	loopback_up();
	side.listener = bound(SOCK_STREAM, SERVER);
	MUST(listen(side.listener, 4));
	side.client = bound(SOCK_STREAM, CLIENT);
	struct sockaddr_in server = at(SERVER);
	MUST(connect(side.client, (void *)&server, sizeof server));
	side.server = (int)MUST(accept4(side.listener, NULL, NULL, SOCK_CLOEXEC));
	MUST(write(side.client, word, 4));
	side.udp = bound(SOCK_DGRAM, SERVER);
	MUST(sendto(side.udp, word, 4, 0, (void *)&server, sizeof server));
	socklen_t length;
	struct sockaddr_un address = name(&length);
	side.local = (int)MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	MUST(bind(side.local, (void *)&address, length));
	MUST(listen(side.local, 4));
	side.local_client = (int)MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	MUST(connect(side.local_client, (void *)&address, length));
	side.local_server = (int)MUST(accept4(side.local, NULL, NULL, SOCK_CLOEXEC));
	MUST(write(side.local_client, word, 4));
	return side;
}

static void expect(int fd, const char *word)
{
	char got[8] = "";
	CHECK(recv(fd, got, 4, 0) == 4 && memcmp(got, word, 4) == 0, "%s, not %s", got, word);
}

static void check(struct side *side)
{
	expect(side->server, side->word);
	expect(side->udp, side->word);
	expect(side->local_server, side->word);
	// New ones find those of their own side.
	struct sockaddr_in server = at(SERVER);
	int client = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	CHECK(connect(client, (void *)&server, sizeof server) == 0);
	int accepted = (int)MUST(accept(side->listener, NULL, NULL));
	CHECK(write(client, "tcp", 4) == 4);
	expect(accepted, "tcp");
	socklen_t length;
	struct sockaddr_un address = name(&length);
	client = (int)MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	CHECK(connect(client, (void *)&address, length) == 0);
	accepted = (int)MUST(accept(side->local, NULL, NULL));
	CHECK(write(client, "unx", 4) == 4);
	expect(accepted, "unx");
}

static void check_name(const char *wanted)
{
	char got[128];
	MUST(gethostname(got, sizeof got));
	CHECK(strcmp(got, wanted) == 0, "%s, not %s", got, wanted);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	char host[128];
	MUST(gethostname(host, sizeof host));
	int go[2];
	MUST(pipe2(go, O_CLOEXEC));
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		close(go[1]);
		// One that stays outside, and a socket that does.
		pid_t outside = (pid_t)MUST(fork());
		if (outside == 0) {
			say_pid("outside");
			wait_for_go(go[0]);
			check_name(host);
			_exit(0);
		}
		int early = bound(SOCK_DGRAM, EARLY);
		MUST(unshare(CLONE_NEWNET | CLONE_NEWUTS));
		MUST(sethostname("sandbox", 7));
		MUST(setdomainname("inner", 5));
		struct side side = make("inn");
		pid_t grandchild = (pid_t)MUST(fork());
		if (grandchild == 0) {
			// Its own name, on the network of its parent.
			MUST(unshare(CLONE_NEWUTS));
			MUST(sethostname("deeper", 6));
			say_pid("grandchild");
			wait_for_go(go[0]);
			check_name("deeper");
			_exit(0);
		}
		say_pid("child");
		wait_for_go(go[0]);
		check_name("sandbox");
		check(&side);
		expect(early, "hey");
		child_must_be_well(outside);
		child_must_be_well(grandchild);
		_exit(0);
	}
	close(go[0]);
	struct side side = make("out");
	while (!told("child") || !told("grandchild") || !told("outside"))
		tick();

	ready_and_wait();

	check_name(host);
	check(&side);
	struct sockaddr_in early = at(EARLY);
	CHECK(sendto(side.udp, "hey", 4, 0, (void *)&early, sizeof early) == 4);
	close(go[1]);
	child_must_be_well(child);
	return well();
}
