// Leases: on reading, on writing, and two that another open is breaking; no signal comes for these a second time.
#include "subject.h"

static int leased(const char *name, int access, int type)
{
	int fd = MUST(open(in_dir(name), access | O_CREAT, 0600));
	MUST(fcntl(fd, F_SETLEASE, type));
	return fd;
}

static void break_lease(const char *name, int access)
{
	CHECK(open(in_dir(name), access | O_NONBLOCK) == -1 && errno == EWOULDBLOCK);
}

static volatile sig_atomic_t signalled;

static void tell(int signal)
{
	(void)signal;
	signalled++;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	signal(SIGIO, tell);
	int reader = leased("read", O_RDONLY, F_RDLCK), writer = leased("write", O_RDWR, F_WRLCK),
	    lowered = leased("lowered", O_WRONLY, F_WRLCK), ended = leased("ended", O_RDONLY, F_RDLCK);
	CHECK(signalled == 0);
	break_lease("lowered", O_RDONLY);
	break_lease("ended", O_WRONLY);
	CHECK(signalled == 2);
	ready_and_wait();
	CHECK(signalled == 2, "signalled %d times", (int)signalled);
	CHECK(fcntl(reader, F_GETLEASE) == F_RDLCK && fcntl(writer, F_GETLEASE) == F_WRLCK);
	CHECK(fcntl(lowered, F_GETLEASE) == F_RDLCK && fcntl(ended, F_GETLEASE) == F_UNLCK);
	// They are in force, and who has them hears of it.
	break_lease("write", O_RDONLY);
	CHECK(signalled == 3);
	MUST(fcntl(writer, F_SETLEASE, F_UNLCK));
	MUST(fcntl(ended, F_SETLEASE, F_UNLCK));
	MUST(close(MUST(open(in_dir("write"), O_RDONLY | O_NONBLOCK))));
	MUST(close(MUST(open(in_dir("ended"), O_WRONLY | O_NONBLOCK))));
	break_lease("lowered", O_RDONLY);
	return well();
}
