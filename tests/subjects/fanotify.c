// fanotify: groups with marks on files, directories and mounts, and with masks of what is ignored.
#include "subject.h"
#include <sys/fanotify.h>

static int next(int fd, struct fanotify_event_metadata *event)
{
	static char buffer[8192];
	ssize_t have = read(fd, buffer, sizeof buffer);
	if (have <= 0)
		return 0;
	memcpy(event, buffer, sizeof *event);
	CHECK(event->event_len == have, "more than one event");
	return 1;
}

static void expect(int fd, uint64_t mask)
{
	struct fanotify_event_metadata event;
	CHECK(next(fd, &event), "no event %llx", (unsigned long long)mask);
	CHECK(event.mask == mask, "mask %llx, not %llx", (unsigned long long)event.mask, (unsigned long long)mask);
	if (event.fd >= 0)
		close(event.fd);
}

static void write_to(const char *name)
{
	int fd = (int)MUST(open(in_dir(name), O_WRONLY | O_CLOEXEC));
	MUST(write(fd, "x", 1));
	close(fd);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	MUST(mkdir(in_dir("watched"), 0755));
	for (int at = 0; at < 3; at++)
		close(MUST(open(in_dir((const char *[]){ "file", "watched/in", "quiet" }[at]), O_CREAT | O_RDWR, 0644)));
	int files = (int)MUST(fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_LARGEFILE));
	MUST(fanotify_mark(files, FAN_MARK_ADD, FAN_CLOSE_WRITE, AT_FDCWD, in_dir("file")));
	MUST(fanotify_mark(files, FAN_MARK_ADD, FAN_MODIFY | FAN_EVENT_ON_CHILD, AT_FDCWD, in_dir("watched")));
	MUST(fanotify_mark(files, FAN_MARK_ADD, FAN_CLOSE_WRITE, AT_FDCWD, in_dir("quiet")));
	MUST(fanotify_mark(files, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_CLOSE_WRITE, AT_FDCWD, in_dir("quiet")));
	int names = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_FID, 0);
	if (names >= 0)
		MUST(fanotify_mark(names, FAN_MARK_ADD, FAN_CREATE | FAN_DELETE | FAN_ONDIR, AT_FDCWD, in_dir("watched")));

	ready_and_wait();

	struct fanotify_event_metadata event;
	CHECK(!next(files, &event), "mask %llx", (unsigned long long)event.mask);
	write_to("quiet");
	CHECK(!next(files, &event), "mask %llx", (unsigned long long)event.mask);
	write_to("file");
	expect(files, FAN_CLOSE_WRITE);
	write_to("watched/in");
	expect(files, FAN_MODIFY);
	if (names >= 0) {
		MUST(mkdir(in_dir("watched/new"), 0755));
		expect(names, FAN_CREATE | FAN_ONDIR);
		MUST(rmdir(in_dir("watched/new")));
		expect(names, FAN_DELETE | FAN_ONDIR);
	}
	MUST(fanotify_mark(files, FAN_MARK_REMOVE, FAN_CLOSE_WRITE, AT_FDCWD, in_dir("file")));
	write_to("file");
	CHECK(!next(files, &event), "mask %llx", (unsigned long long)event.mask);
	return well();
}
