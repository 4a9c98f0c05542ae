// A child in an IPC namespace of its own, with other objects under the keys, ids and names that its parent has.
#include "subject.h"
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

#define KEY 0x636b7074

struct message {
	long kind;
	char text[8];
};

struct side {
	int set, queue, posix;
	char word[8];
};

static struct side make(const char *word)
{
	struct side side = {0};
	strcpy(side.word, word);
	side.set = (int)MUST(semget(KEY, 2, IPC_CREAT | IPC_EXCL | 0600));
	struct sembuf up = {.sem_num = 1, .sem_op = (short)word[0]};
	MUST(semop(side.set, &up, 1));
	side.queue = (int)MUST(msgget(KEY, IPC_CREAT | IPC_EXCL | 0600));
	struct message message = {.kind = 1};
	strcpy(message.text, word);
	MUST(msgsnd(side.queue, &message, sizeof message.text, 0));
	struct mq_attr attributes = {.mq_maxmsg = 4, .mq_msgsize = 8};
	side.posix = (int)MUST(mq_open("/ckpt-private-ipc", O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0600, &attributes));
	MUST(mq_send((mqd_t)side.posix, message.text, 8, 3));
	return side;
}

static void check(struct side *side)
{
	CHECK(semget(KEY, 2, 0) == side->set);
	CHECK(semctl(side->set, 1, GETVAL) == side->word[0], "%d", semctl(side->set, 1, GETVAL));
	CHECK(msgget(KEY, 0) == side->queue);
	struct message message;
	CHECK(msgrcv(side->queue, &message, sizeof message.text, 0, IPC_NOWAIT) == 8);
	CHECK(message.kind == 1 && strcmp(message.text, side->word) == 0, "%s", message.text);
	unsigned priority;
	mqd_t again = (mqd_t)MUST(mq_open("/ckpt-private-ipc", O_RDWR | O_NONBLOCK));
	CHECK(mq_receive(again, message.text, 8, &priority) == 8 && priority == 3);
	CHECK(strcmp(message.text, side->word) == 0, "%s", message.text);
	CHECK(mq_send((mqd_t)side->posix, "again", 6, 1) == 0);
	CHECK(mq_receive(again, message.text, 8, &priority) == 6 && strcmp(message.text, "again") == 0);
	MUST(semctl(side->set, 0, IPC_RMID));
	MUST(msgctl(side->queue, IPC_RMID, NULL));
	MUST(mq_unlink("/ckpt-private-ipc"));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int go[2];
	MUST(pipe2(go, O_CLOEXEC));
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		close(go[1]);
		MUST(unshare(CLONE_NEWIPC));
		struct side side = make("inner");
		char number[16];
		snprintf(number, sizeof number, "%d", getpid());
		write_file("child", number);
		char byte;
		CHECK(read(go[0], &byte, 1) == 0);
		check(&side);
		_exit(0);
	}
	close(go[0]);
	struct side side = make("outer");
	while (!told("child"))
		tick();

	ready_and_wait();

	check(&side);
	close(go[1]);
	int status;
	CHECK(waitpid(child, &status, 0) == child);
	// It has said what is wrong.
	return status == 0 ? well() : 1;
}
