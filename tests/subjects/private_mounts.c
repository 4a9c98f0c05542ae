// Children with mounts of their own: other files under the paths that their parent has.
#include "subject.h"
#include <sys/mount.h>

static int open_with(const char *path, const char *text)
{
	int fd = (int)MUST(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0640));
	MUST(write(fd, text, strlen(text)));
	return fd;
}

static void expect(int fd, const char *text)
{
	char got[64] = "";
	CHECK(pread(fd, got, sizeof got - 1, 0) == (ssize_t)strlen(text) && strcmp(got, text) == 0, "%s, not %s", got, text);
}

static void expect_at(const char *path, const char *text)
{
	int fd = (int)MUST(open(path, O_RDONLY));
	expect(fd, text);
	close(fd);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	char private[4096], source[4096], bound[4096], path[4200];
	snprintf(private, sizeof private, "%s", in_dir("private"));
	snprintf(source, sizeof source, "%s", in_dir("source"));
	snprintf(bound, sizeof bound, "%s", in_dir("bound"));
	MUST(mkdir(private, 0755));
	MUST(mkdir(source, 0755));
	MUST(mkdir(bound, 0755));
	int outer = open_with(in_dir("private/who"), "outer");
	int shared = open_with(in_dir("shared"), "shared");
	int go[2];
	MUST(pipe2(go, O_CLOEXEC));
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		close(go[1]);
		MUST(unshare(CLONE_NEWNS));
		MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
		MUST(mount("none", private, "tmpfs", MS_NOSUID, "size=1m"));
		MUST(mount(source, bound, NULL, MS_BIND, NULL));
		MUST(mount(NULL, bound, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
		int inner = open_with(in_dir("private/who"), "inner");
		MUST(lseek(inner, 3, SEEK_SET));
		int source_file = open_with(in_dir("source/file"), "source");
		int bound_file = (int)MUST(open(in_dir("bound/file"), O_RDONLY | O_CLOEXEC));
		int gone = open_with(in_dir("private/gone"), "gone");
		MUST(unlink(in_dir("private/gone")));
		int map = (int)MUST(open(in_dir("private/map"), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
		MUST(ftruncate(map, PAGE));
		char *mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
		CHECK(mapped != MAP_FAILED);
		strcpy(mapped, "mapped");
		MUST(mkfifo(in_dir("private/fifo"), 0600));
		int fifo = (int)MUST(open(in_dir("private/fifo"), O_RDWR | O_CLOEXEC));
		MUST(write(fifo, "through", 7));
		MUST(mkdir(in_dir("private/sub"), 0700));
		MUST(chdir(in_dir("private/sub")));
		pid_t grandchild = (pid_t)MUST(fork());
		if (grandchild == 0) {
			// What its parent has, and something of its own.
			MUST(unshare(CLONE_NEWNS));
			MUST(mount("none", bound, "tmpfs", 0, "size=1m"));
			int own = open_with(in_dir("bound/own"), "own");
			say_pid("grandchild");
			wait_for_go(go[0]);
			expect(own, "own");
			expect_at(in_dir("bound/own"), "own");
			expect_at(in_dir("private/who"), "inner");
			close(open_with(in_dir("private/news"), "news"));
			CHECK(strcmp(mapped, "mapped") == 0);
			strcpy(mapped, "by the child");
			_exit(0);
		}
		say_pid("child");
		wait_for_go(go[0]);
		expect(inner, "inner");
		CHECK(lseek(inner, 0, SEEK_CUR) == 3);
		expect_at(in_dir("private/who"), "inner");
		expect(source_file, "source");
		expect(bound_file, "source");
		expect_at(in_dir("bound/file"), "source");
		CHECK(open(in_dir("bound/new"), O_CREAT | O_WRONLY, 0600) == -1 && errno == EROFS);
		expect(gone, "gone");
		expect(shared, "shared");
		expect(outer, "outer");
		char got[4200] = "";
		CHECK(read(fifo, got, 7) == 7 && strcmp(got, "through") == 0);
		CHECK(getcwd(got, sizeof got) != NULL);
		snprintf(path, sizeof path, "%s/sub", private);
		CHECK(strcmp(got, path) == 0, "%s", got);
		CHECK(access("../map", F_OK) == 0);
		child_must_be_well(grandchild);
		expect_at(in_dir("private/news"), "news");
		CHECK(access(in_dir("bound/own"), F_OK) == -1);
		CHECK(strcmp(mapped, "by the child") == 0);
		CHECK(pread(map, got, 12, 0) == 12 && memcmp(got, "by the child", 12) == 0);
		_exit(0);
	}
	close(go[0]);
	while (!told("child") || !told("grandchild"))
		tick();

	ready_and_wait();

	expect(outer, "outer");
	expect_at(in_dir("private/who"), "outer");
	CHECK(access(in_dir("private/map"), F_OK) == -1 && errno == ENOENT);
	CHECK(access(in_dir("bound/file"), F_OK) == -1 && errno == ENOENT);
	expect(shared, "shared");
	close(go[1]);
	child_must_be_well(child);
	return well();
}
