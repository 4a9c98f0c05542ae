// POSIX message queues: messages in order of priority and age, attributes, several descriptors of one queue, one without a name,
// one in an epoll set, a full one, and processes that wait for a message and for room.
#include "subject.h"
#include <mqueue.h>
#include <sys/epoll.h>

static char name[64];
// Other tests run in the same IPC namespace.
static uint64_t unique;

static void must_get(mqd_t queue, unsigned priority, const char *text)
{
	char room[64];
	unsigned told;
	long length = MUST(mq_receive(queue, room, sizeof room, &told));
	CHECK(told == priority && length == (long)strlen(text) && !memcmp(room, text, (size_t)length), "%u, %ld bytes, %.*s",
	      told, length, (int)length, room);
}

static mqd_t make(const char *suffix, int flags, long messages)
{
	snprintf(name, sizeof name, "/ckpt-subject-%lx-%s", unique, suffix);
	struct mq_attr wanted = { .mq_maxmsg = messages, .mq_msgsize = 64 };
	return (mqd_t)MUST(mq_open(name, O_CREAT | O_EXCL | flags, 0620, &wanted));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	unique = (uint64_t)(seconds(CLOCK_MONOTONIC) * 1e9);
	mqd_t hidden = make("hidden", O_RDWR | O_NONBLOCK, 4);
	mqd_t again = (mqd_t)MUST(mq_open(name, O_RDONLY));
	MUST(mq_unlink(name));
	mqd_t waited = make("waited", O_RDWR, 2), full = make("full", O_RDWR, 2);
	mqd_t writer = make("named", O_WRONLY, 8), reader = (mqd_t)MUST(mq_open(name, O_RDONLY | O_NONBLOCK));
	fchmod(writer, 0604);
	int set = (int)MUST(epoll_create1(0));
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 77 };
	MUST(epoll_ctl(set, EPOLL_CTL_ADD, reader, &event));
	MUST(mq_send(writer, "low", 3, 0));
	MUST(mq_send(writer, "first", 5, 9));
	MUST(mq_send(writer, "", 0, 32767));
	MUST(mq_send(writer, "second", 6, 9));
	MUST(mq_send(hidden, "unseen", 6, 1));
	MUST(mq_send(full, "a", 1, 1));
	MUST(mq_send(full, "b", 1, 1));
	pid_t receiver = (pid_t)MUST(fork());
	if (receiver == 0) {
		must_get(waited, 3, "hello");
		_exit(0);
	}
	pid_t sender = (pid_t)MUST(fork());
	if (sender == 0)
		_exit(mq_send(full, "c", 1, 1) ? 1 : 0);
	while (!sleeps(receiver) || !sleeps(sender))
		tick();

	ready_and_wait();

	struct mq_attr now;
	MUST(mq_getattr(reader, &now));
	CHECK(now.mq_maxmsg == 8 && now.mq_msgsize == 64 && now.mq_curmsgs == 4 && now.mq_flags == O_NONBLOCK, "%ld %ld %ld %lx",
	      now.mq_maxmsg, now.mq_msgsize, now.mq_curmsgs, now.mq_flags);
	struct stat status;
	MUST(fstat(writer, &status));
	CHECK((status.st_mode & 07777) == 0604, "%o", status.st_mode);
	char room[64];
	CHECK(mq_receive(writer, room, sizeof room, NULL) == -1 && errno == EBADF);
	CHECK(mq_send(reader, "", 0, 0) == -1 && errno == EBADF);
	CHECK(MUST(epoll_wait(set, &event, 1, 0)) == 1 && event.data.u64 == 77);
	must_get(reader, 32767, "");
	mqd_t third = (mqd_t)MUST(mq_open(name, O_RDONLY | O_NONBLOCK));
	must_get(third, 9, "first");
	must_get(reader, 9, "second");
	must_get(reader, 0, "low");
	CHECK(mq_receive(reader, room, sizeof room, NULL) == -1 && errno == EAGAIN);
	MUST(mq_unlink(name));

	MUST(fstat(hidden, &status));
	CHECK(status.st_nlink == 0);
	must_get(again, 1, "unseen");
	CHECK(mq_receive(hidden, room, sizeof room, NULL) == -1 && errno == EAGAIN);
	MUST(mq_send(hidden, "both", 4, 2));
	must_get(again, 2, "both");

	MUST(mq_send(waited, "hello", 5, 3));
	int how;
	CHECK(MUST(waitpid(receiver, &how, 0)) == receiver && how == 0, "%x", how);
	must_get(full, 1, "a");
	must_get(full, 1, "b");
	must_get(full, 1, "c");
	CHECK(MUST(waitpid(sender, &how, 0)) == sender && how == 0, "%x", how);
	const char *left[] = { "waited", "full" };
	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof name, "/ckpt-subject-%lx-%s", unique, left[i]);
		MUST(mq_unlink(name));
	}
	return well();
}
