// Pseudo terminals of the program's own: with a session, never opened, closed on one side or the other; settings, modes, sizes.
#include "subject.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

static volatile struct shared {
	int leader_ready, member_ready, interrupts, hangups, resizes, checked;
	pid_t member;
} *shared;

static void count_interrupt(int signal)
{
	(void)signal;
	shared->interrupts++;
}

static void count_hangup(int signal)
{
	(void)signal;
	shared->hangups++;
}

static void count_resize(int signal)
{
	(void)signal;
	shared->resizes++;
}

static int new_master(char *slave)
{
	int master = (int)MUST(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
	MUST(grantpt(master));
	MUST(unlockpt(master));
	MUST(ptsname_r(master, slave, 64));
	return master;
}

static int hung_up(int master)
{
	struct pollfd poll_master = { .fd = master, .events = POLLIN };
	MUST(poll(&poll_master, 1, 0));
	return (poll_master.revents & POLLHUP) != 0;
}

// Reads just `text` at the other end.
static void expect(int fd, const char *text)
{
	char got[64] = "";
	size_t len = 0;
	while (len < strlen(text)) {
		ssize_t now = read(fd, got + len, strlen(text) - len);
		CHECK(now > 0, "%s after %s", text, got);
		len += (size_t)now;
	}
	CHECK(!strcmp(got, text), "%s", got);
}

// The foreground group of the terminal.
static void member(void)
{
	signal(SIGINT, count_interrupt);
	signal(SIGWINCH, count_resize);
	MUST(setpgid(0, 0));
	shared->member = getpid();
	shared->member_ready = 1;
	for (;;)
		pause();
}

// Leads the session whose terminal it is.
static void leader(const char *name)
{
	signal(SIGTTOU, SIG_IGN);
	MUST(setsid());
	int slave = (int)MUST(open(name, O_RDWR | O_NOCTTY));
	MUST(ioctl(slave, TIOCSCTTY, 0));
	int tty = (int)MUST(open("/dev/tty", O_RDWR | O_NONBLOCK));
	if (MUST(fork()) == 0)
		member();
	while (!shared->member_ready)
		tick();
	MUST(tcsetpgrp(tty, shared->member));
	signal(SIGHUP, count_hangup);
	shared->leader_ready = 1;
	while (!told("go"))
		tick();
	CHECK(getsid(0) == getpid() && tcgetsid(slave) == getpid(), "%d", tcgetsid(slave));
	CHECK(tcgetpgrp(tty) == shared->member, "%d", tcgetpgrp(tty));
	CHECK(!strcmp(ttyname(slave), name), "%s", ttyname(slave));
	CHECK(fcntl(tty, F_GETFL) & O_NONBLOCK);
	int again = (int)MUST(open("/dev/tty", O_RDWR));
	MUST(write(again, "again", 5));
	MUST(write(tty, "there", 5));
	shared->checked = 1;
	while (shared->hangups == 0)
		tick();
	_exit(0);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char name[64], other[64];
	struct winsize size = { 33, 99, 7, 8 }, size_now;
	struct termios raw, raw_now;

	int first = new_master(name);
	MUST(ioctl(first, TIOCSWINSZ, &size));
	MUST(chmod(name, 0600));
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		MUST(close(first));
		leader(name);
	}
	while (!shared->leader_ready)
		tick();

	// Raw, in packet mode, exclusive.
	int second = new_master(other);
	int slave = (int)MUST(open(other, O_RDWR | O_NOCTTY | O_NONBLOCK));
	MUST(tcgetattr(slave, &raw));
	cfmakeraw(&raw);
	raw.c_cc[VMIN] = 3;
	raw.c_cc[VINTR] = 7;
	MUST(cfsetspeed(&raw, B9600));
	MUST(tcsetattr(slave, TCSANOW, &raw));
	MUST(ioctl(slave, TIOCEXCL));
	int on = 1;
	MUST(ioctl(second, TIOCPKT, &on));
	char packet[16];
	MUST(fcntl(second, F_SETFL, O_NONBLOCK));
	while (read(second, packet, sizeof packet) > 0)
		;

	// Never unlocked; never opened; opened and closed; its master closed.
	int locked = (int)MUST(posix_openpt(O_RDWR | O_NOCTTY));
	char fourth_name[64], fifth_name[64], sixth_name[64];
	int unopened = new_master(fourth_name);
	int closed = new_master(fifth_name);
	MUST(close((int)MUST(open(fifth_name, O_RDWR | O_NOCTTY))));
	int gone = new_master(sixth_name);
	int orphan = (int)MUST(open(sixth_name, O_RDWR | O_NOCTTY));
	MUST(close(gone));
	CHECK(hung_up(closed) && !hung_up(unopened) && !hung_up(locked));

	ready_and_wait();

	char now[64];
	MUST(ptsname_r(first, now, sizeof now));
	CHECK(!strcmp(now, name), "%s", now);
	MUST(ioctl(first, TIOCGWINSZ, &size_now));
	CHECK(!memcmp(&size, &size_now, sizeof size), "%d %d", size_now.ws_row, size_now.ws_col);
	struct stat node;
	MUST(stat(name, &node));
	CHECK((node.st_mode & 07777) == 0600, "%o", node.st_mode);
	expect(first, "again");
	while (!shared->checked)
		tick();
	expect(first, "there");
	int interrupts = shared->interrupts, resizes = shared->resizes;
	MUST(write(first, "\003", 1));
	while (shared->interrupts == interrupts)
		tick();
	size.ws_row++;
	MUST(ioctl(first, TIOCSWINSZ, &size));
	while (shared->resizes == resizes)
		tick();

	MUST(tcgetattr(slave, &raw_now));
	CHECK(raw_now.c_iflag == raw.c_iflag && raw_now.c_oflag == raw.c_oflag && raw_now.c_cflag == raw.c_cflag &&
	      raw_now.c_lflag == raw.c_lflag && !memcmp(raw_now.c_cc, raw.c_cc, sizeof raw.c_cc));
	CHECK(cfgetospeed(&raw_now) == B9600);
	CHECK(!strcmp(ttyname(slave), other), "%s", ttyname(slave));
	CHECK(fcntl(slave, F_GETFL) & O_NONBLOCK);
	int exclusive;
	MUST(ioctl(slave, TIOCGEXCL, &exclusive));
	CHECK(exclusive);
	MUST(write(slave, "packet", 6));
	ssize_t len;
	while ((len = read(second, packet, sizeof packet)) == -1 && errno == EAGAIN)
		tick();
	CHECK(len == 7 && packet[0] == TIOCPKT_DATA && !memcmp(packet + 1, "packet", 6), "%zd", len);
	MUST(write(second, "abc", 3));
	while ((len = read(slave, packet, sizeof packet)) == -1 && errno == EAGAIN)
		tick();
	CHECK(len == 3 && !memcmp(packet, "abc", 3), "%zd", len);

	int is_locked;
	MUST(ioctl(locked, TIOCGPTLCK, &is_locked));
	CHECK(is_locked == 1);
	MUST(ioctl(unopened, TIOCGPTLCK, &is_locked));
	CHECK(is_locked == 0);
	CHECK(!hung_up(unopened) && !hung_up(locked) && hung_up(closed) && !hung_up(first));
	CHECK(read(orphan, packet, 1) == 0);
	CHECK(write(orphan, "x", 1) == -1 && errno == EIO);
	MUST(close((int)MUST(open(fourth_name, O_RDWR | O_NOCTTY))));
	CHECK(hung_up(unopened));

	// Its leader is told, and ends.
	MUST(close(first));
	int status;
	MUST(waitpid(child, &status, 0));
	CHECK(status == 0, "%x", status);
	kill(shared->member, SIGKILL);
	return well();
}
