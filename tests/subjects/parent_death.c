// A root process that is sent a signal when its parent dies.
#include "subject.h"
#include <sys/prctl.h>

static volatile sig_atomic_t deaths;

static void died(int signal)
{
	(void)signal;
	deaths++;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	signal(SIGUSR1, died);
	MUST(prctl(PR_SET_PDEATHSIG, SIGUSR1));
	ready_and_wait();
	int signal = 0;
	MUST(prctl(PR_GET_PDEATHSIG, &signal));
	CHECK(signal == SIGUSR1, "%d", signal);
	CHECK(deaths == (argc > 2 ? 1 : 0), "%d deaths", deaths);
	return well();
}
