// Protection keys of memory: allocated ones with a gap between, and mappings that have them.
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	int first = pkey_alloc(0, 0);
	if (first < 0) {
		not_exercised("protection keys: the processor or the kernel has none");
		ready_and_wait();
		return well();
	}
	int second = (int)MUST(pkey_alloc(0, 0)), third = (int)MUST(pkey_alloc(0, PKEY_DISABLE_WRITE));
	char *guarded = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	strcpy(guarded, "guarded");
	MUST(pkey_mprotect(guarded, 2 * PAGE, PROT_READ | PROT_WRITE, third));
	MUST(pkey_mprotect(guarded + 2 * PAGE, PAGE, PROT_READ, first));
	MUST(pkey_free(second));
	// A child has its parent's keys, and others of its own.
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		MUST(pkey_free(first));
		while (!told("go"))
			tick();
		_exit(pkey_alloc(0, 0) == first && pkey_alloc(0, 0) == second && pkey_get(third) == PKEY_DISABLE_WRITE ? 0 : 1);
	}
	int fds[2], status;
	MUST(pipe(fds));

	ready_and_wait();

	CHECK(!strcmp(guarded, "guarded"));
	// The kernel heeds the key, too: it may read there, and may not write.
	CHECK(write(fds[1], guarded, 8) == 8);
	CHECK(read(fds[0], guarded, 8) == -1 && errno == EFAULT);
	CHECK(pkey_get(third) == PKEY_DISABLE_WRITE && pkey_get(first) == 0);
	MUST(pkey_set(third, 0));
	CHECK(read(fds[0], guarded, 8) == 8);
	CHECK(MUST(waitpid(child, &status, 0)) == child && status == 0, "%x", status);
	CHECK(MUST(pkey_alloc(0, 0)) == second);
	MUST(pkey_free(third));
	CHECK(MUST(pkey_alloc(0, 0)) == third);
	return well();
}
