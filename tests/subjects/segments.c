// System V shared memory: a segment with a key, one that is marked to go, one of which a part is left, one attached for reading only.
#include "subject.h"
#include <sys/ipc.h>
#include <sys/shm.h>

enum { SIZE = 5 * PAGE + 100 };

static char *attach(int id, int flags)
{
	char *at = shmat(id, NULL, flags);
	CHECK(at != (void *)-1);
	return at;
}

static struct shmid_ds look(int id)
{
	struct shmid_ds status;
	MUST(shmctl(id, IPC_STAT, &status));
	return status;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	key_t key = (key_t)(0x636b0000 + getpid());
	int keyed = (int)MUST(shmget(key, SIZE, IPC_CREAT | IPC_EXCL | 0640));
	int passing = (int)MUST(shmget(IPC_PRIVATE, 3 * PAGE, 0600));
	int partial = (int)MUST(shmget(IPC_PRIVATE, 4 * PAGE, 0600));
	char *a = attach(keyed, 0), *b = attach(passing, 0), *c = attach(partial, 0);
	const char *readonly = attach(keyed, SHM_RDONLY);
	MUST(shmctl(passing, IPC_RMID, NULL));
	memset(a, 'a', SIZE);
	strcpy(b + PAGE, "marked to go");
	strcpy(c + 2 * PAGE, "a part");
	MUST(munmap(c, PAGE));
	MUST(munmap(c + 3 * PAGE, PAGE));
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		while (!told("go"))
			tick();
		strcpy(a + 10, "from the child");
		strcpy(b, "too");
		_exit(0);
	}

	ready_and_wait();

	int status;
	CHECK(MUST(waitpid(child, &status, 0)) == child && status == 0, "%x", status);
	CHECK(!strcmp(a + 10, "from the child") && a[9] == 'a' && a[SIZE - 1] == 'a' && a[SIZE] == 0);
	CHECK(!strcmp(readonly + 10, "from the child"));
	CHECK(!strcmp(b, "too") && !strcmp(b + PAGE, "marked to go") && !strcmp(c + 2 * PAGE, "a part"));
	CHECK(shmget(key, 0, 0) == keyed);
	struct shmid_ds is = look(keyed);
	CHECK(is.shm_segsz == SIZE && (is.shm_perm.mode & 0777) == 0640 && is.shm_nattch == 2, "%lu attachments", is.shm_nattch);
	is = look(passing);
	CHECK((is.shm_perm.mode & SHM_DEST) && is.shm_nattch == 1, "mode %o", is.shm_perm.mode);
	CHECK(look(partial).shm_nattch == 1);
	MUST(shmdt(b));
	struct shmid_ds gone;
	CHECK(shmctl(passing, IPC_STAT, &gone) == -1 && (errno == EINVAL || errno == EIDRM));
	MUST(shmctl(keyed, IPC_RMID, NULL));
	MUST(shmctl(partial, IPC_RMID, NULL));
	return well();
}
