// Multicast groups that sockets have joined: of any source, of some, of all but some; IPv4 and IPv6.
#include "subject.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define LO 1

static struct sockaddr_storage address(const char *text)
{
	struct sockaddr_storage result = { 0 };
	struct sockaddr_in *v4 = (void *)&result;
	struct sockaddr_in6 *v6 = (void *)&result;
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
		result.ss_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
		result.ss_family = AF_INET6;
	return result;
}

static int level(const char *group)
{
	return address(group).ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
}

static void with_source(int fd, int what, const char *group, const char *source)
{
	struct group_source_req request = { .gsr_interface = LO, .gsr_group = address(group), .gsr_source = address(source) };
	MUST(setsockopt(fd, level(group), what, &request, sizeof request));
}

// Mode and sources of a group; 0: no member.
static int filter(int fd, const char *group, struct group_filter *now)
{
	*now = (struct group_filter){ .gf_interface = LO, .gf_group = address(group), .gf_numsrc = 1 };
	socklen_t length = sizeof *now;
	return getsockopt(fd, level(group), MCAST_MSFILTER, now, &length) == 0;
}

static int same(const struct sockaddr_storage *a, const char *text)
{
	struct sockaddr_storage b = address(text);
	if (b.ss_family == AF_INET)
		return ((struct sockaddr_in *)a)->sin_addr.s_addr == ((struct sockaddr_in *)&b)->sin_addr.s_addr;
	return !memcmp(&((struct sockaddr_in6 *)a)->sin6_addr, &((struct sockaddr_in6 *)&b)->sin6_addr, 16);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	static const struct {
		int family;
		const char *all, *one, *others, *source;
	} sets[] = { { AF_INET, "239.1.1.1", "232.1.1.2", "239.1.1.3", "127.0.0.1" },
		     { AF_INET6, "ff02::1:1", "ff32::1:2", "ff02::1:3", "fd00::5" } };
	int fds[2] = { -1, -1 };
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t length = sizeof at;
	for (int i = 0; i < 2; i++) {
		int fd = socket(sets[i].family, SOCK_DGRAM, 0);
		struct group_req request = { .gr_interface = LO, .gr_group = address(sets[i].all) };
		if (fd < 0 || setsockopt(fd, level(sets[i].all), MCAST_JOIN_GROUP, &request, sizeof request))
			continue; // no IPv6 here
		with_source(fd, MCAST_JOIN_SOURCE_GROUP, sets[i].one, sets[i].source);
		request.gr_group = address(sets[i].others);
		MUST(setsockopt(fd, level(sets[i].others), MCAST_JOIN_GROUP, &request, sizeof request));
		with_source(fd, MCAST_BLOCK_SOURCE, sets[i].others, sets[i].source);
		fds[i] = fd;
	}
	CHECK(fds[0] >= 0);
	MUST(bind(fds[0], (void *)&at, sizeof at));
	MUST(getsockname(fds[0], (void *)&at, &length));
	struct in_addr loopback = { htonl(INADDR_LOOPBACK) };
	int sender = MUST(socket(AF_INET, SOCK_DGRAM, 0));
	MUST(setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &loopback, sizeof loopback));
	ready_and_wait();
	for (int i = 0; i < 2; i++) {
		struct group_filter now;
		if (fds[i] < 0)
			continue;
		CHECK(filter(fds[i], sets[i].all, &now) && now.gf_fmode == MCAST_EXCLUDE && now.gf_numsrc == 0, "%s", sets[i].all);
		CHECK(filter(fds[i], sets[i].one, &now) && now.gf_fmode == MCAST_INCLUDE && now.gf_numsrc == 1, "%s", sets[i].one);
		CHECK(same(&now.gf_slist[0], sets[i].source));
		CHECK(filter(fds[i], sets[i].others, &now) && now.gf_fmode == MCAST_EXCLUDE && now.gf_numsrc == 1, "%s", sets[i].others);
		CHECK(same(&now.gf_slist[0], sets[i].source));
		CHECK(!filter(sender, "239.1.1.1", &now));
	}
	// The groups are heard: all of 239.1.1.1, not 127.0.0.1 in 239.1.1.3, which comes first.
	char text[8] = { 0 };
	struct sockaddr_in to = at;
	inet_pton(AF_INET, "239.1.1.3", &to.sin_addr);
	MUST(sendto(sender, "not", 3, 0, (void *)&to, sizeof to));
	inet_pton(AF_INET, "239.1.1.1", &to.sin_addr);
	MUST(sendto(sender, "heard", 5, 0, (void *)&to, sizeof to));
	CHECK(recv(fds[0], text, sizeof text, 0) == 5 && !strcmp(text, "heard"), "%s", text);
	return well();
}
