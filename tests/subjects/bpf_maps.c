// BPF maps: a hash and an array with their entries, one of them by two descriptors, one frozen.
#include "subject.h"
#include <linux/bpf.h>

static long bpf(int command, union bpf_attr *attributes)
{
	return syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

static int create(int kind, unsigned key, unsigned value, unsigned room, unsigned flags, const char *name)
{
	union bpf_attr a = { .map_type = kind, .key_size = key, .value_size = value, .max_entries = room, .map_flags = flags };
	strcpy(a.map_name, name);
	return (int)MUST(bpf(BPF_MAP_CREATE, &a));
}

static long access_(int command, int map, void *key, void *value)
{
	union bpf_attr a = { .map_fd = (unsigned)map, .key = (uint64_t)(uintptr_t)key, .value = (uint64_t)(uintptr_t)value };
	return bpf(command, &a);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	// Where memory has several nodes, the one that was asked for cannot be told.
	unsigned hash_flags = BPF_F_NO_PREALLOC | (access("/sys/devices/system/node/node1", F_OK) ? BPF_F_NUMA_NODE : 0);
	int hash = create(BPF_MAP_TYPE_HASH, 4, 12, 2000, hash_flags, "some_hash"), array = create(BPF_MAP_TYPE_ARRAY, 4, 8, 300, 0, "an_array");
	for (uint32_t key = 0; key < 1500; key++) {
		uint32_t value[3] = { key, key * 2, key * 3 };
		MUST(access_(BPF_MAP_UPDATE_ELEM, hash, &key, value));
	}
	for (uint32_t key = 0; key < 300; key++) {
		uint64_t value = key * 1000003ULL;
		MUST(access_(BPF_MAP_UPDATE_ELEM, array, &key, &value));
	}
	union bpf_attr freeze = { .map_fd = (unsigned)array };
	MUST(bpf(BPF_MAP_FREEZE, &freeze));
	struct bpf_map_info info = { 0 };
	union bpf_attr ask = { .info = { .bpf_fd = (unsigned)hash, .info_len = sizeof info, .info = (uint64_t)(uintptr_t)&info } };
	MUST(bpf(BPF_OBJ_GET_INFO_BY_FD, &ask));
	union bpf_attr open_ = { .map_id = info.id, .open_flags = BPF_F_RDONLY };
	int reader = (int)MUST(bpf(BPF_MAP_GET_FD_BY_ID, &open_));

	ready_and_wait();

	uint32_t value[3];
	for (uint32_t key = 0; key < 1500; key++)
		CHECK(!access_(BPF_MAP_LOOKUP_ELEM, hash, &key, value) && value[0] == key && value[1] == key * 2 && value[2] == key * 3, "%u", key);
	uint32_t absent = 1500, first = 3;
	CHECK(access_(BPF_MAP_LOOKUP_ELEM, hash, &absent, value) == -1 && errno == ENOENT);
	for (uint32_t key = 0; key < 300; key++) {
		uint64_t got;
		CHECK(!access_(BPF_MAP_LOOKUP_ELEM, array, &key, &got) && got == key * 1000003ULL, "%u", key);
	}
	uint64_t any = 1;
	CHECK(access_(BPF_MAP_UPDATE_ELEM, array, &first, &any) == -1 && errno == EPERM);
	// One map by two descriptors, of which one may only read.
	uint32_t changed[3] = { 7, 8, 9 };
	MUST(access_(BPF_MAP_UPDATE_ELEM, hash, &absent, changed));
	CHECK(!access_(BPF_MAP_LOOKUP_ELEM, reader, &absent, value) && value[2] == 9);
	CHECK(access_(BPF_MAP_UPDATE_ELEM, reader, &absent, changed) == -1 && errno == EPERM);
	struct bpf_map_info now = { 0 };
	ask = (union bpf_attr){ .info = { .bpf_fd = (unsigned)hash, .info_len = sizeof now, .info = (uint64_t)(uintptr_t)&now } };
	MUST(bpf(BPF_OBJ_GET_INFO_BY_FD, &ask));
	CHECK(!strcmp(now.name, "some_hash") && now.map_flags == hash_flags, "%s %x", now.name, now.map_flags);
	return well();
}
