// /dev/net/tun: TUN and TAP interfaces, in this process's network namespace or (`own`) in one of its own; and that packets pass.
#include "subject.h"
#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int control;

static struct ifreq named(const char *name)
{
	struct ifreq request = { 0 };
	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	return request;
}

static int attached(const char *name, int flags)
{
	int fd = (int)MUST(open("/dev/net/tun", O_RDWR | O_NONBLOCK));
	struct ifreq request = named(name);
	request.ifr_flags = (short)flags;
	MUST(ioctl(fd, TUNSETIFF, &request));
	return fd;
}

static int flags_of(int fd, const char *name)
{
	struct ifreq told = { 0 };
	MUST(ioctl(fd, TUNGETIFF, &told));
	CHECK(!strcmp(told.ifr_name, name), "%s is %s", name, told.ifr_name);
	return (unsigned short)told.ifr_flags & ~IFF_NOFILTER;
}

static int number(int fd, unsigned long request)
{
	int value = -1;
	MUST(ioctl(fd, request, &value));
	return value;
}

static void set_number(int fd, unsigned long request, int value)
{
	MUST(ioctl(fd, request, &value));
}

static struct in_addr address(const char *text)
{
	struct in_addr address;
	CHECK(inet_pton(AF_INET, text, &address) == 1);
	return address;
}

static void set_address(unsigned long request, const char *name, const char *text)
{
	struct ifreq set = named(name);
	struct sockaddr_in *at = (struct sockaddr_in *)&set.ifr_addr;
	at->sin_family = AF_INET;
	at->sin_addr = address(text);
	MUST(ioctl(control, request, &set));
}

static void bring_up(const char *name, const char *text)
{
	set_address(SIOCSIFADDR, name, text);
	set_address(SIOCSIFNETMASK, name, "255.255.255.0");
	struct ifreq set = named(name);
	MUST(ioctl(control, SIOCGIFFLAGS, &set));
	set.ifr_flags |= IFF_UP;
	MUST(ioctl(control, SIOCSIFFLAGS, &set));
}

static struct ifreq asked(unsigned long request, const char *name)
{
	struct ifreq told = named(name);
	MUST(ioctl(control, request, &told));
	return told;
}

static uint16_t sum(const void *bytes, size_t length)
{
	uint32_t sum = 0;
	for (const uint16_t *word = bytes; length > 1; length -= 2)
		sum += *word++;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

struct packet {
	struct tun_pi information;
	struct iphdr ip;
	struct udphdr udp;
	char data[8];
} __attribute__((packed));

// A datagram to the network behind the interface reaches this program, which answers as that network's host.
static void packets_must_pass(int tun)
{
	int udp = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr = address("10.95.7.7") };
	MUST(sendto(udp, "question", 8, 0, (struct sockaddr *)&to, sizeof to));
	struct packet packet;
	do {
		ssize_t length;
		while ((length = read(tun, &packet, sizeof packet)) < 0 && errno == EAGAIN)
			tick();
		CHECK(length > 0);
	} while (packet.information.proto != htons(0x0800) || packet.ip.protocol != IPPROTO_UDP);
	CHECK(packet.ip.daddr == to.sin_addr.s_addr && !memcmp(packet.data, "question", 8));
	uint32_t here = packet.ip.saddr;
	uint16_t port = packet.udp.source;
	packet.ip.saddr = packet.ip.daddr;
	packet.ip.daddr = here;
	packet.udp.source = packet.udp.dest;
	packet.udp.dest = port;
	packet.udp.check = 0;
	packet.ip.check = 0;
	packet.ip.check = sum(&packet.ip, sizeof packet.ip);
	memcpy(packet.data, "response", 8);
	CHECK(write(tun, &packet, sizeof packet) == sizeof packet);
	char answer[16];
	CHECK(recv(udp, answer, sizeof answer, 0) == 8 && !memcmp(answer, "response", 8));
	close(udp);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	if (argc > 2 && !strcmp(argv[2], "own"))
		MUST(unshare(CLONE_NEWNET));
	control = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0));
	const int several = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
	int nothing = (int)MUST(open("/dev/net/tun", O_RDWR | O_CLOEXEC));
	int tun = attached("ck-tun", IFF_TUN), first = attached("ck-tap", several), second = attached("ck-tap", several);
	int idle = attached("ck-idle", IFF_TUN | IFF_NO_PI), stays = attached("ck-stays", IFF_TAP | IFF_NO_PI);
	int shared = dup(first);
	struct ifreq detach = { .ifr_flags = IFF_DETACH_QUEUE };
	MUST(ioctl(second, TUNSETQUEUE, &detach));
	set_number(first, TUNSETVNETHDRSZ, sizeof(struct virtio_net_hdr_mrg_rxbuf));
	set_number(first, TUNSETVNETLE, 1);
	set_number(first, TUNSETSNDBUF, 300000);
	MUST(ioctl(first, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6));
	MUST(ioctl(idle, TUNSETOWNER, 1000));
	MUST(ioctl(idle, TUNSETGROUP, 1001));
	MUST(ioctl(stays, TUNSETPERSIST, 1));

	bring_up("ck-tun", "10.94.0.1");
	bring_up("ck-tap", "10.96.0.1");
	struct ifreq set = named("ck-tap");
	set.ifr_hwaddr.sa_family = 1;
	memcpy(set.ifr_hwaddr.sa_data, "\x02\0\0\0\x77\x03", 6);
	MUST(ioctl(control, SIOCSIFHWADDR, &set));
	set = named("ck-tun");
	set.ifr_mtu = 1380;
	MUST(ioctl(control, SIOCSIFMTU, &set));
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };
	((struct sockaddr_in *)&route.rt_dst)->sin_family = AF_INET;
	((struct sockaddr_in *)&route.rt_dst)->sin_addr = address("10.95.0.0");
	((struct sockaddr_in *)&route.rt_genmask)->sin_family = AF_INET;
	((struct sockaddr_in *)&route.rt_genmask)->sin_addr = address("255.255.0.0");
	((struct sockaddr_in *)&route.rt_gateway)->sin_family = AF_INET;
	((struct sockaddr_in *)&route.rt_gateway)->sin_addr = address("10.94.0.9");
	MUST(ioctl(control, SIOCADDRT, &route));
	unsigned indices[] = { if_nametoindex("ck-tun"), if_nametoindex("ck-tap"), if_nametoindex("ck-idle") };

	ready_and_wait();

	struct ifreq told = { 0 };
	CHECK(ioctl(nothing, TUNGETIFF, &told) == -1 && errno == EBADFD);
	CHECK(flags_of(tun, "ck-tun") == IFF_TUN, "%#x", flags_of(tun, "ck-tun"));
	CHECK(flags_of(first, "ck-tap") == (several & ~IFF_NO_PI) && flags_of(shared, "ck-tap") == flags_of(first, "ck-tap"));
	CHECK(flags_of(second, "ck-tap") == ((several & ~IFF_NO_PI) | IFF_DETACH_QUEUE), "%#x", flags_of(second, "ck-tap"));
	CHECK(flags_of(idle, "ck-idle") == IFF_TUN && flags_of(stays, "ck-stays") == (IFF_TAP | IFF_PERSIST));
	CHECK(number(first, TUNGETVNETHDRSZ) == sizeof(struct virtio_net_hdr_mrg_rxbuf) && number(first, TUNGETVNETLE) == 1);
	CHECK(number(first, TUNGETSNDBUF) == 300000, "%d", number(first, TUNGETSNDBUF));
	unsigned now[] = { if_nametoindex("ck-tun"), if_nametoindex("ck-tap"), if_nametoindex("ck-idle") };
	CHECK(!memcmp(indices, now, sizeof now), "%u %u %u", now[0], now[1], now[2]);
	CHECK(!memcmp(asked(SIOCGIFHWADDR, "ck-tap").ifr_hwaddr.sa_data, "\x02\0\0\0\x77\x03", 6));
	CHECK(asked(SIOCGIFMTU, "ck-tun").ifr_mtu == 1380);
	CHECK(asked(SIOCGIFFLAGS, "ck-tun").ifr_flags & IFF_UP && !(asked(SIOCGIFFLAGS, "ck-idle").ifr_flags & IFF_UP));
	packets_must_pass(tun);
	// The queue can be taken into service again; an interface goes with its last queue unless it stays.
	struct ifreq attach = { .ifr_flags = IFF_ATTACH_QUEUE };
	MUST(ioctl(second, TUNSETQUEUE, &attach));
	close(idle);
	CHECK(if_nametoindex("ck-idle") == 0);
	close(stays);
	CHECK(if_nametoindex("ck-stays") != 0);
	return well();
}
