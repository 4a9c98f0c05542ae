// POSIX shared memory between processes: a file whose contents are memory. With `hold PATH` it only maps that file.
#include "subject.h"
#include <sys/wait.h>

enum { SIZE = 64 * PAGE };

static char name[64];

static void hold(const char *path)
{
	int fd = (int)MUST(open(path, O_RDWR));
	CHECK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
	ready_and_wait();
	_exit(well());
}

static void check(volatile unsigned *words, const char *who)
{
	struct stat now;
	MUST(stat(name, &now));
	CHECK(now.st_size == SIZE && (now.st_mode & 0777) == 0640, "%s: %ld bytes, %o", who, (long)now.st_size, now.st_mode);
	for (unsigned i = 0; i < SIZE / 4; i++) {
		// The second half was never touched but for one word.
		unsigned wanted = i < SIZE / 8 ? i * 2654435761u : i == SIZE / 4 - 1 ? 5 : 0;
		CHECK(words[i] == wanted, "%s: word %u is %x", who, i, words[i]);
	}
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	if (argc > 3)
		hold(argv[3]);
	snprintf(name, sizeof name, "/dev/shm/ckpt-test-%ld-%d", (long)time(NULL), getpid());
	int fd = (int)MUST(open(name, O_RDWR | O_CREAT | O_EXCL, 0600));
	MUST(fchmod(fd, 0640));
	MUST(ftruncate(fd, SIZE));
	volatile unsigned *words = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(words != MAP_FAILED);
	for (unsigned i = 0; i < SIZE / 8; i++)
		words[i] = i * 2654435761u;
	words[SIZE / 4 - 1] = 5;
	write_file("name", name);
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		// Mapped by name, as any other process would.
		int own = (int)MUST(open(name, O_RDWR));
		volatile unsigned *view = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, own, 0);
		CHECK(view != MAP_FAILED);
		write_file("child", "");
		while (view[SIZE / 8] != 1)
			tick();
		view[SIZE / 8] = 0;
		check(view, "the child");
		view[0] = 77;
		_exit(told("verdict"));
	}
	while (!told("child"))
		tick();
	ready_and_wait();
	check(words, "the parent");
	words[SIZE / 8] = 1;
	int status;
	CHECK(MUST(waitpid(child, &status, 0)) == child && status == 0, "%x", status);
	CHECK(words[0] == 77, "the two no longer share");
	// What comes later must not be seen by one that is restored again.
	for (unsigned i = 0; i < SIZE / 4; i++)
		words[i] = 0xdead;
	MUST(ftruncate(fd, 2 * SIZE));
	if (!told("restored") || told("restored-2"))
		MUST(unlink(name));
	write_file(told("restored-1") ? "restored-2" : "restored-1", "");
	return well();
}
