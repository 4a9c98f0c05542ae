// A real-time policy, and SCHED_RESET_ON_FORK.
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	struct sched_param now;
	MUST(sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &(struct sched_param){ .sched_priority = 4 }));
	ready_and_wait();
	CHECK(sched_getscheduler(0) == (SCHED_RR | SCHED_RESET_ON_FORK));
	MUST(sched_getparam(0, &now));
	CHECK(now.sched_priority == 4);
	return well();
}
