// What prctl(2) sets for a process and its threads, and mappings that are sealed or droppable.
#include "subject.h"
#include <pthread.h>
#include <sys/prctl.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

static int speculation_before, merges;
static volatile int thread_is_ready, thread_may_go;

static int tsc(void)
{
	int state = 0;
	MUST(prctl(PR_GET_TSC, &state));
	return state;
}

static int speculation(void)
{
	return prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0);
}

static void *other_thread(void *unused)
{
	(void)unused;
	MUST(prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
	if (speculation_before == (PR_SPEC_PRCTL | PR_SPEC_ENABLE))
		MUST(prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0));
	thread_is_ready = 1;
	while (!thread_may_go)
		tick();
	CHECK(tsc() == PR_TSC_SIGSEGV);
	if (speculation_before == (PR_SPEC_PRCTL | PR_SPEC_ENABLE))
		CHECK(speculation() == (PR_SPEC_PRCTL | PR_SPEC_DISABLE), "%x", speculation());
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	speculation_before = speculation();
	if (speculation_before != (PR_SPEC_PRCTL | PR_SPEC_ENABLE))
		not_exercised("speculation control");
	char *sealed = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(sealed != MAP_FAILED);
	strcpy(sealed, "sealed");
	char *droppable = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);
	if (droppable == MAP_FAILED)
		not_exercised("MAP_DROPPABLE");
	else
		strcpy(droppable, "kept as long as there is room");
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, other_thread, NULL) == 0);
	while (!thread_is_ready)
		tick();
	merges = prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) == 0;
	if (!merges)
		not_exercised("PR_SET_MEMORY_MERGE");
	int seals = syscall(SYS_mseal, sealed, 4 * PAGE, 0) == 0;
	if (!seals)
		not_exercised("mseal");
	MUST(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	MUST(prctl(PR_SET_MDWE, 1, 0, 0, 0));
	ready_and_wait();
	CHECK(prctl(PR_GET_MDWE, 0, 0, 0, 0) == 1);
	CHECK(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1);
	CHECK(!merges || prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) == 1);
	char *code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(code == MAP_FAILED && errno == EACCES);
	CHECK(!strcmp(sealed, "sealed"));
	if (seals)
		CHECK(munmap(sealed, PAGE) == -1 && errno == EPERM);
	if (droppable != MAP_FAILED)
		CHECK(!strcmp(droppable, "kept as long as there is room") || droppable[0] == 0);
	CHECK(tsc() == PR_TSC_ENABLE && speculation() == speculation_before);
	thread_may_go = 1;
	CHECK(pthread_join(thread, NULL) == 0);
	return well();
}
