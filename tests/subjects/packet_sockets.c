// AF_PACKET sockets: interface, protocol, memberships, options, groups, filters; and that packets still arrive.
#include "subject.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

static int option(int fd, int name)
{
	int value = -1;
	socklen_t length = sizeof value;
	MUST(getsockopt(fd, SOL_PACKET, name, &value, &length));
	return value;
}

static void set(int fd, int name, int value)
{
	MUST(setsockopt(fd, SOL_PACKET, name, &value, sizeof value));
}

static int bound(int kind, uint16_t protocol, unsigned interface)
{
	int fd = (int)MUST(socket(AF_PACKET, kind | SOCK_NONBLOCK, 0));
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = (int)interface };
	MUST(bind(fd, (struct sockaddr *)&at, sizeof at));
	return fd;
}

static struct sockaddr_ll name_of(int fd)
{
	struct sockaddr_ll name = { 0 };
	socklen_t length = sizeof name;
	MUST(getsockname(fd, (struct sockaddr *)&name, &length));
	return name;
}

// How many want all packets of the loopback interface.
static unsigned promiscuity(void)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg info;
	} request = { { sizeof request, RTM_GETLINK, NLM_F_REQUEST, 1, 0 }, { .ifi_index = 1 } };
	int fd = (int)MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	MUST(send(fd, &request, sizeof request, 0));
	static char answer[32768];
	int length = (int)MUST(recv(fd, answer, sizeof answer, 0));
	close(fd);
	struct nlmsghdr *head = (struct nlmsghdr *)answer;
	struct rtattr *at = IFLA_RTA(NLMSG_DATA(head));
	CHECK(head->nlmsg_type == RTM_NEWLINK);
	for (length -= NLMSG_SPACE(sizeof(struct ifinfomsg)); RTA_OK(at, length); at = RTA_NEXT(at, length))
		if (at->rta_type == IFLA_PROMISCUITY)
			return *(unsigned *)RTA_DATA(at);
	wrong("no IFLA_PROMISCUITY");
}

static int count(int fd)
{
	char room[2048];
	int packets = 0;
	while (recv(fd, room, sizeof room, 0) > 0)
		packets++;
	return packets;
}

// Of the old type: an address is the interface's name.
static int old(const char *interface)
{
	int fd = (int)MUST(socket(AF_PACKET, SOCK_PACKET | SOCK_NONBLOCK, htons(ETH_P_IP)));
	struct sockaddr at = { .sa_family = AF_PACKET };
	strncpy(at.sa_data, interface, sizeof at.sa_data);
	if (*interface)
		MUST(bind(fd, &at, sizeof at));
	return fd;
}

static void old_must_be_at(int fd, const char *interface)
{
	struct sockaddr at = { 0 };
	socklen_t length = sizeof at;
	MUST(getsockname(fd, &at, &length));
	CHECK(at.sa_family == AF_PACKET && !strncmp(at.sa_data, interface, sizeof at.sa_data));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	unsigned lo = if_nametoindex("lo");
	CHECK(lo != 0);
	int raw = bound(SOCK_RAW, ETH_P_ALL, lo), cooked = bound(SOCK_DGRAM, ETH_P_IP, 0), deaf = (int)MUST(socket(AF_PACKET, SOCK_RAW, 0));
	int filtered = bound(SOCK_DGRAM, ETH_P_IP, lo), first = bound(SOCK_RAW, ETH_P_ARP, lo), second = bound(SOCK_RAW, ETH_P_ARP, lo);
	struct packet_mreq promiscuous = { .mr_ifindex = (int)lo, .mr_type = PACKET_MR_PROMISC };
	MUST(setsockopt(raw, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous));
	MUST(setsockopt(raw, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous));
	struct packet_mreq group = { (int)lo, PACKET_MR_MULTICAST, 6, { 1, 0, 0x5e, 1, 2, 3 } };
	MUST(setsockopt(deaf, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &group, sizeof group));
	set(raw, PACKET_AUXDATA, 1);
	set(raw, PACKET_VERSION, TPACKET_V2);
	set(raw, PACKET_RESERVE, 32);
	set(cooked, PACKET_ORIGDEV, 1);
	set(cooked, PACKET_IGNORE_OUTGOING, 1);
	int member = 77 | PACKET_FANOUT_LB << 16;
	set(first, PACKET_FANOUT, member);
	set(second, PACKET_FANOUT, member);
	struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog filter = { 1, &nothing };
	MUST(setsockopt(filtered, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter));

	int old_bound = old("lo"), old_unbound = old("");

	ready_and_wait();

	old_must_be_at(old_bound, "lo");
	old_must_be_at(old_unbound, "");

	struct sockaddr_ll name = name_of(raw);
	CHECK(name.sll_protocol == htons(ETH_P_ALL) && name.sll_ifindex == (int)lo && name.sll_hatype == 772, "%d", name.sll_hatype);
	name = name_of(cooked);
	CHECK(name.sll_protocol == htons(ETH_P_IP) && name.sll_ifindex == 0);
	CHECK(name_of(deaf).sll_protocol == 0);
	CHECK(option(raw, PACKET_AUXDATA) == 1 && option(raw, PACKET_VERSION) == TPACKET_V2 && option(raw, PACKET_RESERVE) == 32);
	CHECK(option(cooked, PACKET_ORIGDEV) == 1 && option(cooked, PACKET_IGNORE_OUTGOING) == 1 && option(cooked, PACKET_AUXDATA) == 0);
	CHECK((option(first, PACKET_FANOUT) & 0xffffff) == member && (option(second, PACKET_FANOUT) & 0xffffff) == member);

	int udp = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	count(raw);
	count(cooked);
	count(old_bound);
	count(old_unbound);
	MUST(sendto(udp, "packet", 6, 0, (struct sockaddr *)&to, sizeof to));
	CHECK(count(raw) >= 2);
	CHECK(count(cooked) >= 1 && count(old_bound) >= 1 && count(old_unbound) >= 1);
	CHECK(count(filtered) == 0);
	int none = 0;
	MUST(setsockopt(filtered, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof none));
	CHECK(promiscuity() == 1);
	MUST(setsockopt(raw, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &promiscuous, sizeof promiscuous));
	CHECK(promiscuity() == 1);
	MUST(setsockopt(raw, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &promiscuous, sizeof promiscuous));
	CHECK(promiscuity() == 0);
	MUST(setsockopt(deaf, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &group, sizeof group));
	return well();
}
