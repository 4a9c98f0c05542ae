// inotify: watches under their descriptors, and events that have not been read.
#include "subject.h"
#include <sys/inotify.h>

static int next(int fd, struct inotify_event *event, char *name)
{
	static char buffer[8192];
	static int have, at;
	if (at == have) {
		have = (int)read(fd, buffer, sizeof buffer);
		at = 0;
		if (have <= 0) {
			have = 0;
			return 0;
		}
	}
	memcpy(event, buffer + at, sizeof *event);
	strcpy(name, event->len ? buffer + at + sizeof *event : "");
	at += (int)(sizeof *event + event->len);
	return 1;
}

static void expect(int fd, int wd, uint32_t mask, const char *want)
{
	struct inotify_event event;
	char name[256];
	CHECK(next(fd, &event, name), "no event %x of %s", mask, want);
	CHECK(event.wd == wd && event.mask == mask && !strcmp(name, want), "wd %d mask %x name %s", event.wd, event.mask, name);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	MUST(mkdir(in_dir("watched"), 0755));
	MUST(mkdir(in_dir("dropped"), 0755));
	close(MUST(open(in_dir("file"), O_CREAT | O_RDWR, 0644)));
	int fd = MUST(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	int directory = MUST(inotify_add_watch(fd, in_dir("watched"), IN_CREATE | IN_DELETE | IN_ONLYDIR));
	int dropped = MUST(inotify_add_watch(fd, in_dir("dropped"), IN_ALL_EVENTS));
	int file = MUST(inotify_add_watch(fd, in_dir("file"), IN_MODIFY | IN_EXCL_UNLINK));
	MUST(inotify_rm_watch(fd, dropped));
	close(MUST(open(in_dir("watched/a"), O_CREAT | O_RDWR, 0644)));
	MUST(unlink(in_dir("watched/a")));
	ready_and_wait();
	// Events that wait cannot be read without taking them from the program: a restored one is told that some were lost, as
	// the kernel itself does when the queue is full.
	struct inotify_event event;
	char name[256];
	CHECK(next(fd, &event, name));
	if (event.mask != IN_Q_OVERFLOW) {
		CHECK(!told("restored") && event.wd == dropped && event.mask == IN_IGNORED, "wd %d mask %x", event.wd, event.mask);
		expect(fd, directory, IN_CREATE, "a");
		expect(fd, directory, IN_DELETE, "a");
	}
	close(MUST(open(in_dir("watched/b"), O_CREAT | O_RDWR, 0644)));
	expect(fd, directory, IN_CREATE, "b");
	MUST(unlink(in_dir("watched/b")));
	expect(fd, directory, IN_DELETE, "b");
	int written = MUST(open(in_dir("file"), O_WRONLY));
	MUST(write(written, "x", 1));
	expect(fd, file, IN_MODIFY, "");
	MUST(inotify_rm_watch(fd, file));
	expect(fd, file, IN_IGNORED, "");
	CHECK(!next(fd, &event, name), "one event too many: wd %d mask %x %s", event.wd, event.mask, name);
	return well();
}
