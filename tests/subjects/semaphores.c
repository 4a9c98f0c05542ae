// System V semaphores: values, permissions, a set that has gone when the copy comes back, and a process that waits for one.
#include "subject.h"
#include <sys/ipc.h>
#include <sys/sem.h>

static int change(int set, unsigned short number, short by)
{
	struct sembuf operation = { .sem_num = number, .sem_op = by };
	return semop(set, &operation, 1);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	key_t key = 0x636b0000 + getpid();
	int set = (int)MUST(semget(key, 3, IPC_CREAT | IPC_EXCL | 0640)), own = (int)MUST(semget(IPC_PRIVATE, 1, 0600));
	unsigned short values[3] = { 5, 0, 32767 };
	MUST(semctl(set, 0, SETALL, values));
	MUST(change(own, 0, 2));
	pid_t waiter = (pid_t)MUST(fork());
	if (waiter == 0) {
		// Never fails with EINTR on a checkpoint's account.
		_exit(change(set, 1, -2) ? 1 : 0);
	}
	while (semctl(set, 1, GETNCNT) != 1)
		tick();

	ready_and_wait();

	if (told("restored")) // The waiter waits again as soon as it runs.
		while (semctl(set, 1, GETNCNT) != 1)
			tick();
	CHECK(MUST(semget(key, 3, 0)) == set);
	struct semid_ds status;
	MUST(semctl(set, 0, IPC_STAT, &status));
	CHECK((status.sem_perm.mode & 0777) == 0640, "%o", status.sem_perm.mode);
	unsigned short now[3];
	MUST(semctl(set, 0, GETALL, now));
	CHECK(!memcmp(now, values, sizeof now), "%d %d %d", now[0], now[1], now[2]);
	CHECK(MUST(semctl(own, 0, GETVAL)) == 2);
	MUST(change(set, 1, 2));
	int waited;
	CHECK(MUST(waitpid(waiter, &waited, 0)) == waiter && waited == 0, "%x", waited);
	MUST(change(set, 0, -4));
	CHECK(MUST(semctl(set, 0, GETVAL)) == 1);
	MUST(semctl(set, 0, IPC_RMID));
	MUST(semctl(own, 0, IPC_RMID));
	return well();
}
