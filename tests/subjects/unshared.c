// Threads with descriptor tables, and directories and umasks, of their own, and threads that share those.
#include "subject.h"
#include <linux/kcmp.h>
#include <pthread.h>

enum { TABLE, CHILD, PLACE, BOTH, PLAIN, COUNT };

static volatile struct thread {
	pid_t tid;
	int done;
} threads[COUNT];
static int common, shared_offset;
static volatile int compared;

static void mark(int which)
{
	threads[which].tid = gettid();
}

static void finish(int which)
{
	threads[which].done = 1;
	while (!compared)
		tick();
}

static void wait_go(void)
{
	while (!told("go"))
		tick();
}

// What this thread's table has under a number: the name in the directory, or NULL for nothing.
static void check_fd(int fd, const char *name)
{
	char link[64], path[4096];
	snprintf(link, sizeof link, "/proc/thread-self/fd/%d", fd);
	ssize_t length = readlink(link, path, sizeof path - 1);
	if (name == NULL) {
		CHECK(length == -1 && errno == ENOENT, "fd %d", fd);
		return;
	}
	CHECK(length > 0, "fd %d", fd);
	path[length] = 0;
	CHECK(strcmp(strrchr(path, '/') + 1, name) == 0, "fd %d: %s", fd, path);
}

static void check_place(const char *name, mode_t mask)
{
	char path[4096];
	CHECK(getcwd(path, sizeof path) && strcmp(strrchr(path, '/') + 1, name) == 0, "%s, not %s", path, name);
	mode_t now = umask(0);
	umask(now);
	CHECK(now == mask, "umask %o", now);
}

static int open_at(const char *name, int number)
{
	int fd = (int)MUST(open(in_dir(name), O_RDWR | O_CREAT, 0600));
	MUST(dup2(fd, number));
	if (fd != number)
		MUST(close(fd));
	return number;
}

// Born of a thread with a table of its own: has that table.
static void *child(void *nothing)
{
	mark(CHILD);
	wait_go();
	check_fd(50, "of-table");
	check_fd(51, NULL);
	check_place("start", 022);
	finish(CHILD);
	return nothing;
}

static void *table(void *nothing)
{
	MUST(unshare(CLONE_FILES));
	MUST(close(51));
	MUST(close(52));
	open_at("of-table", 50);
	// A lock that is the table's alone.
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 3, .l_len = 4 };
	MUST(fcntl(50, F_SETLK, &lock));
	pthread_t born;
	CHECK(pthread_create(&born, NULL, child, NULL) == 0);
	mark(TABLE);
	wait_go();
	check_fd(50, "of-table");
	check_fd(51, NULL);
	check_fd(52, NULL);
	check_place("start", 022);
	// Shared with the first thread from before it had a table of its own.
	CHECK(lseek(common, 0, SEEK_CUR) == shared_offset, "%ld", (long)lseek(common, 0, SEEK_CUR));
	if (fork() == 0) {
		struct flock other = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
		_exit(fcntl(50, F_GETLK, &other) || other.l_type != F_WRLCK || other.l_start != 3 || other.l_pid != getppid());
	}
	int status;
	MUST(wait(&status));
	CHECK(status == 0, "the lock");
	finish(TABLE);
	CHECK(pthread_join(born, NULL) == 0);
	return nothing;
}

static void *place(void *nothing)
{
	MUST(unshare(CLONE_FS));
	MUST(chdir(in_dir("elsewhere")));
	umask(0077);
	mark(PLACE);
	wait_go();
	check_place("elsewhere", 0077);
	check_fd(50, "of-process");
	check_fd(51, "of-process");
	finish(PLACE);
	return nothing;
}

static void *both(void *nothing)
{
	MUST(unshare(CLONE_FS | CLONE_FILES));
	MUST(chdir(in_dir("elsewhere")));
	umask(0007);
	open_at("of-both", 51);
	mark(BOTH);
	wait_go();
	check_place("elsewhere", 0007);
	check_fd(50, "of-process");
	check_fd(51, "of-both");
	finish(BOTH);
	return nothing;
}

static void *plain(void *nothing)
{
	mark(PLAIN);
	wait_go();
	check_place("start", 022);
	check_fd(51, "of-process");
	finish(PLAIN);
	return nothing;
}

static int same(int resource, pid_t left, pid_t right)
{
	return syscall(SYS_kcmp, left, right, resource, 0, 0) == 0;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	MUST(mkdir(in_dir("start"), 0755));
	MUST(mkdir(in_dir("elsewhere"), 0755));
	MUST(chdir(in_dir("start")));
	umask(022);
	open_at("of-process", 50);
	MUST(dup2(50, 51));
	int pipes[2];
	MUST(pipe(pipes));
	MUST(dup2(pipes[0], 52));
	common = open_at("common", 53);
	MUST(ftruncate(common, 1000));
	shared_offset = 17;
	MUST(lseek(common, shared_offset, SEEK_SET));

	void *(*bodies[])(void *) = { table, NULL, place, both, plain };
	pthread_t made[COUNT];
	for (int which = 0; which < COUNT; which++) {
		if (bodies[which])
			CHECK(pthread_create(&made[which], NULL, bodies[which], NULL) == 0);
		while (threads[which].tid == 0)
			tick();
	}
	shared_offset = 21;
	MUST(lseek(common, shared_offset, SEEK_SET));

	ready_and_wait();

	check_place("start", 022);
	check_fd(50, "of-process");
	check_fd(51, "of-process");
	pid_t own = getpid();
	CHECK(same(KCMP_FILES, threads[TABLE].tid, threads[CHILD].tid) && !same(KCMP_FILES, own, threads[TABLE].tid));
	CHECK(same(KCMP_FILES, own, threads[PLACE].tid) && !same(KCMP_FS, own, threads[PLACE].tid));
	CHECK(!same(KCMP_FILES, own, threads[BOTH].tid) && !same(KCMP_FS, own, threads[BOTH].tid));
	CHECK(!same(KCMP_FS, threads[PLACE].tid, threads[BOTH].tid) && same(KCMP_FS, own, threads[TABLE].tid));
	CHECK(same(KCMP_FILES, own, threads[PLAIN].tid) && same(KCMP_FS, own, threads[PLAIN].tid));
	compared = 1;
	for (int which = 0; which < COUNT; which++) {
		if (bodies[which])
			CHECK(pthread_join(made[which], NULL) == 0);
		CHECK(threads[which].done, "%d", which);
	}
	return well();
}
