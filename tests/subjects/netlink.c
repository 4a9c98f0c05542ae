// Netlink sockets: ports, groups (also beyond the 32 that an address has), options, a connected one, a filter; and that they still talk to the kernel.
#include "subject.h"
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

static int option(int fd, int name)
{
	int value = -1;
	socklen_t length = sizeof value;
	MUST(getsockopt(fd, SOL_NETLINK, name, &value, &length));
	return value;
}

static void set(int fd, int level, int name, int value)
{
	MUST(setsockopt(fd, level, name, &value, sizeof value));
}

static struct sockaddr_nl name_of(int fd, int (*call)(int, struct sockaddr *, socklen_t *))
{
	struct sockaddr_nl name = { 0 };
	socklen_t length = sizeof name;
	MUST(call(fd, (struct sockaddr *)&name, &length));
	return name;
}

// Asks for the loopback interface, and reads the answer.
static void must_be_answered(int fd)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg info;
	} request = { { sizeof request, RTM_GETLINK, NLM_F_REQUEST, 7, 0 }, { .ifi_index = 1 } };
	MUST(send(fd, &request, sizeof request, 0));
	char answer[16384];
	MUST(recv(fd, answer, sizeof answer, 0));
	struct nlmsghdr *head = (struct nlmsghdr *)answer;
	CHECK(head->nlmsg_type == RTM_NEWLINK && head->nlmsg_seq == 7, "%d", head->nlmsg_type);
	CHECK(head->nlmsg_pid == name_of(fd, getsockname).nl_pid, "%u", head->nlmsg_pid);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int bound = (int)MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)), second = (int)MUST(socket(AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE));
	int fresh = (int)MUST(socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_ROUTE));
	int user = (int)MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK)), peer = (int)MUST(socket(AF_NETLINK, SOCK_RAW, NETLINK_USERSOCK));
	struct sockaddr_nl at = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_NEIGH };
	MUST(bind(bound, (struct sockaddr *)&at, sizeof at));
	set(bound, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_NSID);
	set(bound, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_MCTP_IFADDR);
	set(bound, SOL_NETLINK, NETLINK_PKTINFO, 1);
	set(bound, SOL_NETLINK, NETLINK_EXT_ACK, 1);
	set(bound, SOL_SOCKET, SO_RCVBUF, 100000);
	set(second, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
	set(second, SOL_NETLINK, NETLINK_CAP_ACK, 1);
	set(second, SOL_SOCKET, SO_PASSCRED, 1);
	must_be_answered(second);
	at.nl_groups = 0;
	at.nl_pid = 0x636b0000u + (uint32_t)getpid();
	MUST(bind(peer, (struct sockaddr *)&at, sizeof at));
	MUST(connect(user, (struct sockaddr *)&at, sizeof at));
	// Lets pass what begins with an 'a'.
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'a', 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0xffff), BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog filter = { 4, program };
	MUST(setsockopt(peer, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter));
	set(peer, SOL_SOCKET, SO_LOCK_FILTER, 1);
	uint32_t port = name_of(second, getsockname).nl_pid, first = name_of(bound, getsockname).nl_pid;
	CHECK(port != 0 && first != 0 && port != first);

	ready_and_wait();

	CHECK(name_of(second, getsockname).nl_pid == port);
	struct sockaddr_nl name = name_of(bound, getsockname);
	CHECK(name.nl_pid == first && name.nl_groups == (RTMGRP_NEIGH | 1u << (RTNLGRP_NSID - 1)), "%x", name.nl_groups);
	uint32_t groups[8] = { 0 };
	socklen_t length = sizeof groups;
	MUST(getsockopt(bound, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &length));
	CHECK(groups[1] == 1u << (RTNLGRP_MCTP_IFADDR - 33), "%x", groups[1]);
	CHECK(option(bound, NETLINK_PKTINFO) == 1 && option(bound, NETLINK_EXT_ACK) == 1 && option(bound, NETLINK_CAP_ACK) == 0);
	CHECK(option(second, NETLINK_NO_ENOBUFS) == 1 && option(second, NETLINK_CAP_ACK) == 1);
	int value;
	length = sizeof value;
	MUST(getsockopt(second, SOL_SOCKET, SO_PASSCRED, &value, &length));
	CHECK(value == 1);
	MUST(getsockopt(bound, SOL_SOCKET, SO_RCVBUF, &value, &length));
	CHECK(value == 200000, "%d", value);
	must_be_answered(second);
	must_be_answered(bound);
	CHECK(name_of(fresh, getsockname).nl_pid == 0);
	char room[16];
	CHECK(recv(fresh, room, sizeof room, 0) == -1 && errno == EAGAIN);
	CHECK(name_of(user, getpeername).nl_pid == at.nl_pid);
	MUST(send(user, "bad", 3, 0));
	MUST(send(user, "all", 3, 0));
	CHECK(MUST(recv(peer, room, sizeof room, 0)) == 3 && !memcmp(room, "all", 3));
	CHECK(setsockopt(peer, SOL_SOCKET, SO_DETACH_FILTER, &value, sizeof value) == -1 && errno == EPERM);
	return well();
}
