// Processes whose parents have ended, with no process of the job to adopt them. With "keeper": whoever started the root does, and nobody else's
// children are it. With "late": the parents of one end when "orphan" is told.
#include "subject.h"
#include <sys/prctl.h>

static volatile struct place {
	pid_t pid, ppid, pgid, sid;
	int wrong;
} *places;

static void stay(int slot)
{
	struct place was = { getpid(), getppid(), getpgrp(), getsid(0), -1 };
	places[slot] = was;
	while (!told("go"))
		tick();
	struct place is = { getpid(), getppid(), getpgrp(), getsid(0), -1 };
	// The root's session, and its group, may be another's, which the restored ones have not.
	is.wrong = is.pid != was.pid || (slot != 0 && is.pgid != was.pgid) || (slot > 1 && is.sid != was.sid);
	places[slot] = is;
	while (!told("end"))
		tick();
	_exit(0);
}

static void wait_until_orphaned(pid_t parent)
{
	while (getppid() == parent)
		tick();
}

static void wait_for(int slot)
{
	while (places[slot].pid == 0)
		tick();
}

// Has a child make an orphan, and end.
#define ORPHAN(slot, before, after)                                                                     \
	do {                                                                                            \
		pid_t middle = (pid_t)MUST(fork());                                                     \
		if (middle == 0) {                                                                      \
			pid_t self = getpid();                                                          \
			before;                                                                         \
			if (MUST(fork()) == 0) {                                                        \
				after;                                                                  \
				wait_until_orphaned(self);                                              \
				stay(slot);                                                             \
			}                                                                               \
			_exit(0);                                                                       \
		}                                                                                       \
		MUST(waitpid(middle, NULL, 0));                                                         \
		wait_for(slot);                                                                         \
	} while (0)

int main(int argc, char **argv)
{
	begin(argc, argv);
	const char *mode = argc > 2 ? argv[2] : "";
	int keeper = strcmp(mode, "keeper") == 0, late = strcmp(mode, "late") == 0, count = 0;
	places = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (late) {
		// A daemon whose parent lives on for a while: a session of its own tells nothing of where it comes from.
		if (MUST(fork()) == 0) {
			pid_t self = getpid();
			if (MUST(fork()) == 0) {
				MUST(setsid());
				write_file("born", "");
				wait_until_orphaned(self);
				stay(0);
			}
			while (!told("orphan"))
				tick();
			_exit(0);
		}
		count = 1;
		while (!told("born"))
			tick();
	} else {
		// In the root's session; in a group of its own there; in the session of a child that lives on.
		ORPHAN(0, (void)0, (void)0);
		ORPHAN(1, (void)0, setpgid(0, 0));
		pid_t leader = (pid_t)MUST(fork());
		if (leader == 0) {
			MUST(setsid());
			ORPHAN(2, (void)0, (void)0);
			stay(3);
		}
		wait_for(3);
		CHECK(places[2].sid == leader);
		count = 4;
	}
	if (keeper) {
		// Daemons: one leads a session of its own, the leader of the other one's session has ended. Both have a child.
		ORPHAN(4, (void)0, {
			setsid();
			if (MUST(fork()) == 0)
				stay(5);
		});
		ORPHAN(6, setsid(), {
			if (MUST(fork()) == 0)
				stay(7);
		});
		wait_for(5);
		wait_for(7);
		count = 8;
	}

	ready_and_wait();

	int has_child[] = { 0, 0, 0, 1, 0, 1, 0, 1 };
	pid_t parents[] = { 0, 0, 0, getpid(), 0, places[4].pid, 0, places[6].pid };
	for (int slot = 0; slot < count; slot++) {
		volatile struct place *place = &places[slot];
		while (place->wrong < 0)
			tick();
		CHECK(!place->wrong, "%d", slot);
		if (has_child[slot])
			CHECK(place->ppid == parents[slot], "%d: parent %d", slot, place->ppid);
		else
			CHECK(place->ppid == places[0].ppid && place->ppid != getpid(), "%d: parent %d", slot, place->ppid);
		if (!has_child[slot] && keeper)
			CHECK(place->ppid == getppid() || (place->ppid == 1 && getppid() == 0), "%d: parent %d", slot, place->ppid);
	}
	if (!late)
		CHECK(places[0].pgid == getpgrp() && places[0].sid == getsid(0) && places[1].sid == getsid(0) && places[2].sid == places[3].pid);
	write_file("end", "");
	return well();
}
