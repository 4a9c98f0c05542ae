// System V message queues: messages in order of type, permissions, limits, a queue that has gone when the copy comes back, and
// processes that wait for a message and for room.
#include "subject.h"
#include <sys/ipc.h>
#include <sys/msg.h>

struct message {
	long type;
	char text[4096];
};

static int put(int queue, long type, const char *text, size_t length)
{
	struct message message = { .type = type };
	memcpy(message.text, text, length);
	return msgsnd(queue, &message, length, 0);
}

static void must_get(int queue, long which, long type, const char *text)
{
	struct message message;
	long length = MUST(msgrcv(queue, &message, sizeof message.text, which, IPC_NOWAIT));
	CHECK(message.type == type && length == (long)strlen(text) && !memcmp(message.text, text, (size_t)length),
	      "type %ld, %ld bytes", message.type, length);
}

static struct msqid_ds status_of(int queue)
{
	struct msqid_ds status;
	MUST(msgctl(queue, IPC_STAT, &status));
	return status;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	key_t key = 1 + (key_t)((uint64_t)(seconds(CLOCK_MONOTONIC) * 1e6) % 0x7ffffffe); // Other tests run in the same IPC namespace.
	int queue = (int)MUST(msgget(key, IPC_CREAT | IPC_EXCL | 0620)), full = (int)MUST(msgget(IPC_PRIVATE, 0600));
	int silent = (int)MUST(msgget(IPC_PRIVATE, 0600)), drained = (int)MUST(msgget(IPC_PRIVATE, 0600));
	char big[4000];
	memset(big, 'b', sizeof big);
	MUST(put(queue, 7, "first of seven", 14));
	MUST(put(queue, 1, "one", 3));
	MUST(put(queue, 7, "second of seven", 15));
	MUST(put(queue, 0x7fffffffffffffff, "", 0));
	MUST(put(queue, 2, big, sizeof big));
	struct msqid_ds limits = status_of(full);
	limits.msg_qbytes = 100;
	limits.msg_perm.mode = 0640;
	MUST(msgctl(full, IPC_SET, &limits));
	MUST(put(full, 1, big, 90));
	MUST(put(drained, 1, "gone", 4));
	must_get(drained, 0, 1, "gone");

	pid_t receiver = (pid_t)MUST(fork());
	if (receiver == 0) {
		// Never fails with EINTR on a checkpoint's account. Nobody has ever used this queue.
		struct message message;
		_exit(msgrcv(silent, &message, sizeof message.text, 5, 0) == 5 && !memcmp(message.text, "hello", 5) ? 0 : 1);
	}
	pid_t sender = (pid_t)MUST(fork());
	if (sender == 0)
		_exit(put(full, 3, big, 20) ? 1 : 0);
	while (!sleeps(receiver) || !sleeps(sender))
		tick();

	ready_and_wait();

	CHECK(MUST(msgget(key, 0)) == queue);
	struct msqid_ds status = status_of(queue);
	CHECK((status.msg_perm.mode & 0777) == 0620 && status.msg_qnum == 5, "%o %lu", status.msg_perm.mode, status.msg_qnum);
	must_get(queue, 7, 7, "first of seven");
	must_get(queue, -1, 1, "one");
	must_get(queue, 0, 7, "second of seven");
	must_get(queue, 0, 0x7fffffffffffffff, "");
	struct message message;
	CHECK(MUST(msgrcv(queue, &message, sizeof message.text, 0, IPC_NOWAIT)) == sizeof big);
	CHECK(message.type == 2 && !memcmp(message.text, big, sizeof big));
	CHECK(msgrcv(queue, &message, sizeof message.text, 0, IPC_NOWAIT) == -1 && errno == ENOMSG);

	status = status_of(full);
	CHECK(status.msg_qbytes == 100 && (status.msg_perm.mode & 0777) == 0640, "%lu", status.msg_qbytes);
	CHECK(status.msg_qnum == 1, "%lu", status.msg_qnum);
	CHECK(MUST(msgrcv(full, &message, sizeof message.text, 1, 0)) == 90);
	CHECK(MUST(msgrcv(full, &message, sizeof message.text, 3, 0)) == 20);
	CHECK(status_of(drained).msg_qnum == 0);
	MUST(put(silent, 5, "hello", 5));
	int how;
	CHECK(MUST(waitpid(receiver, &how, 0)) == receiver && how == 0, "%x", how);
	CHECK(MUST(waitpid(sender, &how, 0)) == sender && how == 0, "%x", how);
	int all[] = { queue, full, silent, drained };
	for (int i = 0; i < 4; i++)
		MUST(msgctl(all[i], IPC_RMID, NULL));
	return well();
}
