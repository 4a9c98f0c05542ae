// Files in use that no path leads to: removed directories, FIFO, symbolic link and device, a name replaced by another, an ended process's directory.
#include "subject.h"
#include <sys/inotify.h>
#include <sys/sysmacros.h>

static void end(pid_t child)
{
	MUST(kill(child, SIGKILL));
	MUST(waitpid(child, NULL, 0));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int home = MUST(open(".", O_PATH | O_DIRECTORY));
	MUST(mkdir(in_dir("a"), 0700));
	MUST(mkdir(in_dir("a/b"), 0750));
	int directory = MUST(open(in_dir("a/b"), O_RDONLY | O_DIRECTORY));
	MUST(chdir(in_dir("a/b")));
	MUST(rmdir(in_dir("a/b")));
	MUST(rmdir(in_dir("a")));

	MUST(mkfifo(in_dir("fifo"), 0640));
	int pipe_in = MUST(open(in_dir("fifo"), O_RDWR)), pipe_out = MUST(open(in_dir("fifo"), O_RDONLY));
	MUST(write(pipe_in, "in the pipe", 11));
	MUST(unlink(in_dir("fifo")));

	MUST(symlink("/nowhere/at/all", in_dir("link")));
	int link_fd = MUST(open(in_dir("link"), O_PATH | O_NOFOLLOW));
	MUST(unlink(in_dir("link")));

	MUST(mknod(in_dir("null"), S_IFCHR | 0600, makedev(1, 3)));
	int null = MUST(open(in_dir("null"), O_RDWR));
	MUST(unlink(in_dir("null")));

	int other = MUST(open(in_dir("first"), O_RDWR | O_CREAT, 0600));
	MUST(link(in_dir("first"), in_dir("second")));
	MUST(unlink(in_dir("first")));

	int file = MUST(open(in_dir("watched"), O_RDWR | O_CREAT, 0600));
	struct timespec times[2] = { { 1000, 5 }, { 2000, 7 } };
	MUST(futimens(file, times));
	int notify = MUST(inotify_init1(IN_NONBLOCK));
	int wd = MUST(inotify_add_watch(notify, in_dir("watched"), IN_MODIFY));
	MUST(unlink(in_dir("watched")));

	pid_t child = MUST(fork());
	if (child == 0) {
		// Its directory is that of a process that has ended.
		MUST(close_range(3, ~0U, 0));
		pid_t other = MUST(fork());
		if (other == 0)
			for (;;)
				pause();
		char path[32];
		snprintf(path, sizeof path, "/proc/%d", other);
		MUST(chdir(path));
		end(other);
		for (;;)
			pause();
	}
	char link[64], at[64];
	snprintf(link, sizeof link, "/proc/%d/cwd", child);
	ssize_t len;
	do {
		len = MUST(readlink(link, at, sizeof at - 1));
		at[len] = 0;
	} while (strncmp(at, "/proc/", 6) || !strstr(at, " (deleted)"));
	ready_and_wait();

	struct stat one, two;
	MUST(fstat(directory, &one));
	MUST(stat(".", &two));
	CHECK(one.st_ino == two.st_ino && S_ISDIR(one.st_mode) && (one.st_mode & 07777) == 0750);
	char text[4096];
	CHECK(!getcwd(text, sizeof text) && errno == ENOENT);
	CHECK(openat(directory, "new", O_CREAT | O_WRONLY, 0600) == -1 && errno == ENOENT);
	CHECK(access(in_dir("a"), F_OK) == -1);
	CHECK(read(pipe_out, text, sizeof text) == 11 && !memcmp(text, "in the pipe", 11));
	CHECK(write(pipe_in, "more", 4) == 4 && read(pipe_out, text, sizeof text) == 4);
	CHECK(readlinkat(link_fd, "", text, sizeof text) == 15 && !memcmp(text, "/nowhere/at/all", 15));
	MUST(fstat(null, &one));
	CHECK(S_ISCHR(one.st_mode) && one.st_rdev == makedev(1, 3) && one.st_nlink == 0 && write(null, "x", 1) == 1);
	MUST(fstat(other, &one));
	MUST(stat(in_dir("second"), &two));
	CHECK(one.st_ino == two.st_ino && access(in_dir("first"), F_OK) == -1);
	MUST(fstat(file, &one));
	CHECK(one.st_mtim.tv_sec == 2000 && one.st_mtim.tv_nsec == 7 && one.st_nlink == 0);
	MUST(write(file, "x", 1));
	struct inotify_event event;
	CHECK(read(notify, &event, sizeof event) == sizeof event && event.wd == wd && event.mask == IN_MODIFY);
	CHECK((len = readlink(link, text, sizeof text)) > 0 && len == (ssize_t)strlen(at) && !memcmp(text, at, (size_t)len));
	end(child);
	MUST(fchdir(home));
	return well();
}
