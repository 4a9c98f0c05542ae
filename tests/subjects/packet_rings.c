// Rings of AF_PACKET sockets in memory, of all versions: packets that wait there are read after, and more come where the program expects them.
#include "subject.h"
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>

#define BLOCK 8192U
#define BLOCKS 4U
#define FRAME 2048U
#define FRAMES (BLOCKS * BLOCK / FRAME)

struct ring {
	int fd;
	int version;
	uint16_t protocol;
	char *memory;
	unsigned next;  // frame or block
	unsigned taken; // packets of a block that were read
	unsigned sent, seen;
};

static unsigned lo;

static int bound(uint16_t protocol)
{
	int fd = (int)MUST(socket(AF_PACKET, SOCK_RAW, 0));
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = (int)lo };
	MUST(bind(fd, (struct sockaddr *)&at, sizeof at));
	return fd;
}

static void make_ring(int fd, int name, int version)
{
	struct tpacket_req3 shape = { BLOCK, BLOCKS, FRAME, FRAMES, 5, version == TPACKET_V3 ? 16 : 0, 0 };
	MUST(setsockopt(fd, SOL_PACKET, name, &shape, sizeof shape));
}

static struct ring receiving(int version, uint16_t protocol)
{
	struct ring ring = { .version = version, .protocol = protocol, .fd = (int)MUST(socket(AF_PACKET, SOCK_RAW, 0)) };
	MUST(setsockopt(ring.fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version));
	make_ring(ring.fd, PACKET_RX_RING, version);
	ring.memory = mmap(NULL, BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, 0);
	CHECK(ring.memory != MAP_FAILED);
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = (int)lo };
	MUST(bind(ring.fd, (struct sockaddr *)&at, sizeof at));
	return ring;
}

static void send_one(struct ring *ring)
{
	static int fd = -1;
	if (fd < 0)
		fd = bound(0);
	struct {
		struct ethhdr head;
		unsigned number;
		char rest[600];
	} __attribute__((packed)) frame = { .head.h_proto = htons(ring->protocol), .number = ring->sent++ };
	MUST(send(fd, &frame, sizeof frame, 0));
}

static void must_be_next(struct ring *ring, const char *frame)
{
	unsigned number;
	CHECK(((struct ethhdr *)frame)->h_proto == htons(ring->protocol));
	memcpy(&number, frame + sizeof(struct ethhdr), sizeof number);
	CHECK(number == ring->seen, "version %d: %u, not %u", ring->version, number, ring->seen);
	ring->seen++;
}

static char *frame_at(struct ring *ring)
{
	return ring->memory + ring->next * FRAME;
}

static void wait_word(uint32_t *word, uint32_t bit)
{
	for (int tries = 0; !(__atomic_load_n(word, __ATOMIC_ACQUIRE) & bit); tries++) {
		CHECK(tries < 120000, "nothing comes");
		tick();
	}
}

// Reads one packet, where the program expects it.
static void receive_one(struct ring *ring)
{
	if (ring->version == TPACKET_V3) {
		struct tpacket_block_desc *block = (void *)(ring->memory + ring->next * BLOCK);
		wait_word(&block->hdr.bh1.block_status, TP_STATUS_USER);
		CHECK(block->hdr.bh1.num_pkts > 0);
		struct tpacket3_hdr *packet = (void *)((char *)block + block->hdr.bh1.offset_to_first_pkt);
		for (unsigned skipped = 0; skipped < ring->taken; skipped++)
			packet = (void *)((char *)packet + packet->tp_next_offset);
		must_be_next(ring, (char *)packet + packet->tp_mac);
		if (++ring->taken == block->hdr.bh1.num_pkts) {
			ring->taken = 0;
			ring->next = (ring->next + 1) % BLOCKS;
			__atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		}
		return;
	}
	uint32_t *status = (void *)frame_at(ring);
	wait_word(status, TP_STATUS_USER);
	unsigned mac = ring->version == TPACKET_V2 ? ((struct tpacket2_hdr *)status)->tp_mac : ((struct tpacket_hdr *)status)->tp_mac;
	must_be_next(ring, frame_at(ring) + mac);
	ring->next = (ring->next + 1) % FRAMES;
	__atomic_store_n(status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
}

// Sends one packet through a ring, and hears it elsewhere.
static void pass_one(struct ring *ring, int hears)
{
	struct tpacket2_hdr *head = (void *)frame_at(ring);
	CHECK((__atomic_load_n(&head->tp_status, __ATOMIC_ACQUIRE) & 7) == TP_STATUS_AVAILABLE);
	struct ethhdr *packet = (void *)((char *)head + TPACKET2_HDRLEN - sizeof(struct sockaddr_ll));
	memset(packet, 0, sizeof *packet);
	packet->h_proto = htons(ring->protocol);
	memcpy(packet + 1, &ring->sent, sizeof ring->sent);
	head->tp_len = 100;
	__atomic_store_n(&head->tp_status, TP_STATUS_SEND_REQUEST, __ATOMIC_RELEASE);
	MUST(send(ring->fd, NULL, 0, 0));
	char heard[256];
	CHECK(recv(hears, heard, sizeof heard, 0) == 100);
	ring->sent++;
	must_be_next(ring, heard);
	ring->next = (ring->next + 1) % FRAMES;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	lo = if_nametoindex("lo");
	struct ring rings[] = { receiving(TPACKET_V1, 0x88b6), receiving(TPACKET_V2, 0x88b7), receiving(TPACKET_V3, 0x88b8), receiving(TPACKET_V3, 0x88b9), receiving(TPACKET_V2, 0x88ba) };
	struct ring out = { .version = TPACKET_V2, .protocol = 0x88bb, .fd = (int)MUST(socket(AF_PACKET, SOCK_RAW, 0)) };
	MUST(setsockopt(out.fd, SOL_PACKET, PACKET_VERSION, &out.version, sizeof out.version));
	make_ring(out.fd, PACKET_RX_RING, out.version);
	make_ring(out.fd, PACKET_TX_RING, out.version);
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_ifindex = (int)lo };
	MUST(bind(out.fd, (struct sockaddr *)&at, sizeof at));
	char *both = mmap(NULL, 2 * BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, out.fd, 0);
	CHECK(both != MAP_FAILED);
	out.memory = both + BLOCK * BLOCKS;
	int hears = bound(out.protocol);
	struct timeval most = { .tv_sec = 120 };
	MUST(setsockopt(hears, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most));
	struct ring unmapped = receiving(TPACKET_V2, 0x88bc);
	MUST(munmap(unmapped.memory, BLOCK * BLOCKS));

	// Some are read, some wait; one has not been used, one has gone around, of one half a block is read.
	const unsigned read_before[] = { 5, FRAMES + 7, 9, 0, FRAMES }, waiting[] = { 3, 2, 5, 0, 0 };
	for (unsigned at = 0; at < 5; at++) {
		for (unsigned number = 0; number < read_before[at]; number++) {
			send_one(&rings[at]);
			receive_one(&rings[at]);
		}
		for (unsigned number = 0; number < waiting[at]; number++)
			send_one(&rings[at]);
	}
	// What is in a block that is not handed over yet is lost.
	struct tpacket_block_desc *block = (void *)(rings[2].memory + rings[2].next * BLOCK);
	wait_word(&block->hdr.bh1.block_status, TP_STATUS_USER);
	tick();
	receive_one(&rings[2]);
	for (unsigned number = 0; number < 3; number++)
		pass_one(&out, hears);

	ready_and_wait();

	for (unsigned at = 0; at < 5; at++) {
		struct ring *ring = &rings[at];
		while (ring->seen < ring->sent)
			receive_one(ring);
		for (unsigned number = 0; number < 3 * FRAMES; number++) {
			send_one(ring);
			receive_one(ring);
		}
		struct tpacket_stats_v3 lost = { 0 };
		socklen_t length = sizeof lost;
		MUST(getsockopt(ring->fd, SOL_PACKET, PACKET_STATISTICS, &lost, &length));
		CHECK(lost.tp_drops == 0);
	}
	for (unsigned number = 0; number < 3 * FRAMES; number++)
		pass_one(&out, hears);
	unmapped.memory = mmap(NULL, BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, unmapped.fd, 0);
	CHECK(unmapped.memory != MAP_FAILED);
	send_one(&unmapped);
	receive_one(&unmapped);
	return well();
}
