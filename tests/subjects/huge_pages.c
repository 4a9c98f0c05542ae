// Huge pages of hugetlbfs: private, shared, in memfds, System V segments and files; also changed between two checkpoints.
#include "subject.h"
#include <sys/ipc.h>
#include <sys/shm.h>

#define HUGE (2UL << 20)
#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4U
#endif
#define MAP_HUGE_2M (21 << 26)

static char *map(size_t pages, int flags, int fd)
{
	if (fd < 0)
		flags |= MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2M;
	return (char *)MUST(mmap(NULL, pages * HUGE, PROT_READ | PROT_WRITE, flags, fd, 0));
}

static void fill(char *at, size_t page, int seed)
{
	for (size_t i = 0; i < HUGE; i += 512)
		at[page * HUGE + i] = (char)(seed + i / PAGE + 1);
}

static void must_hold(const char *what, const char *at, size_t page, int seed)
{
	for (size_t i = 0; i < HUGE; i += 512)
		CHECK(at[page * HUGE + i] == (char)(seed + i / PAGE + 1), "%s, page %zu at %zx", what, page, i);
}

static void must_be_zero(const char *what, const char *at, size_t page)
{
	for (size_t i = 0; i < HUGE; i += 8)
		CHECK(*(const long *)(at + page * HUGE + i) == 0, "%s, page %zu at %zx", what, page, i);
}

// Bytes of the pages that a mapping is made of, kB.
static int page_size(const char *at)
{
	FILE *smaps = fopen("/proc/self/smaps", "r");
	char line[4096];
	unsigned long start, end;
	int within = 0, size = 0;
	while (fgets(line, sizeof line, smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			within = start <= (uintptr_t)at && (uintptr_t)at < end;
		else if (within && sscanf(line, "KernelPageSize: %d kB", &size) == 1)
			break;
	}
	fclose(smaps);
	return size;
}

static int memfd(const char *name, size_t pages)
{
	int fd = (int)MUST(syscall(SYS_memfd_create, name, MFD_HUGETLB | MAP_HUGE_2M));
	MUST(ftruncate(fd, (off_t)(pages * HUGE)));
	return fd;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	CHECK(argc == 3);
	char *private = map(5, MAP_PRIVATE, -1);
	fill(private, 0, 1);
	fill(private, 2, 2);
	fill(private, 3, 3);
	char *protected = map(1, MAP_PRIVATE, -1);
	fill(protected, 0, 13);
	MUST(mprotect(protected, HUGE, PROT_READ));
	char *unreserved = map(3, MAP_PRIVATE | MAP_NORESERVE, -1);
	fill(unreserved, 1, 4);
	char *shared = map(2, MAP_SHARED, -1);
	fill(shared, 1, 5);
	int mapped_fd = memfd("mapped", 3), lone_fd = memfd("lone", 2);
	char *mapped = map(3, MAP_SHARED, mapped_fd);
	fill(mapped, 0, 6);
	fill(mapped, 2, 7);
	char *copied = map(3, MAP_PRIVATE, mapped_fd);
	fill(copied, 1, 8);
	char *lone = map(2, MAP_SHARED, lone_fd);
	fill(lone, 1, 9);
	MUST(munmap(lone, 2 * HUGE));
	int segment = (int)MUST(shmget(IPC_PRIVATE, 2 * HUGE, IPC_CREAT | SHM_HUGETLB | MAP_HUGE_2M | 0600));
	char *attached = (char *)MUST(shmat(segment, NULL, 0));
	fill(attached, 1, 10);
	char name[4096];
	snprintf(name, sizeof name, "%s/file", argv[2]);
	int file = (int)MUST(open(name, O_CREAT | O_RDWR, 0600));
	MUST(ftruncate(file, 2 * HUGE));
	char *of_file = map(2, MAP_SHARED, file);
	fill(of_file, 1, 11);
	snprintf(name, sizeof name, "%s/removed", argv[2]);
	int removed = (int)MUST(open(name, O_CREAT | O_RDWR | O_EXCL, 0600));
	MUST(unlink(name));
	MUST(ftruncate(removed, 2 * HUGE));
	char *of_removed = map(2, MAP_SHARED, removed);
	fill(of_removed, 0, 12);
	// A child has what is private to it.
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		fill(private, 0, 20);
		while (!told("go"))
			tick();
		must_hold("child's", private, 0, 20);
		must_hold("child's", private, 2, 2);
		must_hold("child's shared", shared, 1, 5);
		fill(shared, 0, 21);
		_exit(0);
	}

	write_file("ready", "");
	int changed = 0;
	while (!told("go")) {
		tick();
		if (!changed && told("change")) {
			fill(private, 1, 30);
			private[2 * HUGE + 100] = 31;
			MUST(madvise(private, HUGE, MADV_DONTNEED));
			MUST(madvise(unreserved + HUGE, HUGE, MADV_DONTNEED));
			fill(copied, 0, 32);
			fill(mapped, 1, 33);
			changed = 1;
			write_file("changed", "");
		}
	}

	const char *all[] = { private, protected, unreserved, shared, mapped, copied, attached, of_file, of_removed };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		CHECK(page_size(all[i]) == HUGE >> 10, "mapping %zu: %d kB", i, page_size(all[i]));
	if (changed) {
		must_be_zero("private", private, 0);
		must_be_zero("unreserved", unreserved, 1);
		must_hold("private", private, 1, 30);
		CHECK(private[2 * HUGE + 100] == 31);
		private[2 * HUGE + 100] = 0;
		must_hold("copied", copied, 0, 32);
		must_hold("mapped", mapped, 1, 33);
	} else {
		must_hold("private", private, 0, 1);
		must_be_zero("private", private, 1);
		must_hold("unreserved", unreserved, 1, 4);
		must_hold("copied", copied, 0, 6);
		must_be_zero("mapped", mapped, 1);
	}
	must_hold("private", private, 2, 2);
	must_hold("private", private, 3, 3);
	must_be_zero("private", private, 4);
	must_hold("protected", protected, 0, 13);
	must_be_zero("unreserved", unreserved, 0);
	must_hold("shared", shared, 1, 5);
	must_hold("mapped", mapped, 0, 6);
	must_hold("mapped", mapped, 2, 7);
	must_hold("copied", copied, 1, 8);
	must_hold("copied", copied, 2, 7);
	lone = map(2, MAP_SHARED, lone_fd);
	must_be_zero("lone", lone, 0);
	must_hold("lone", lone, 1, 9);
	must_be_zero("attached", attached, 0);
	must_hold("attached", attached, 1, 10);
	must_hold("file", of_file, 1, 11);
	must_hold("removed", of_removed, 0, 12);
	struct stat now;
	MUST(fstat(lone_fd, &now));
	CHECK(now.st_blksize == HUGE && now.st_size == 2 * HUGE);
	int status;
	MUST(waitpid(child, &status, 0));
	CHECK(status == 0, "child: %x", status);
	must_hold("shared with the child", shared, 0, 21);
	struct shmid_ds segment_now;
	MUST(shmctl(segment, IPC_STAT, &segment_now));
	CHECK(segment_now.shm_segsz == 2 * HUGE);
	// Only the last one removes what a later restore makes again.
	MUST(shmctl(segment, IPC_RMID, NULL));
	return well();
}
