// Descriptors that stand for processes: this one, a child that lives, one that is a zombie, one that is gone; and one under way in a socket.
#include "subject.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static pid_t child(int status)
{
	pid_t pid = (pid_t)MUST(fork());
	if (pid)
		return pid;
	if (status >= 0)
		_exit(status);
	for (;;)
		pause();
}

static int open_pidfd(pid_t pid, unsigned flags)
{
	return (int)MUST(syscall(SYS_pidfd_open, pid, flags));
}

static int has_ended(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	return poll(&poll_fd, 1, 0) == 1;
}

static int can_signal(int fd)
{
	return syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) == 0;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	pid_t living = child(-1), zombie = child(7), gone = child(9);
	int self = open_pidfd(getpid(), O_NONBLOCK), other = open_pidfd(living, 0), dead = open_pidfd(zombie, 0),
	    lost = open_pidfd(gone, 0);
	siginfo_t info;
	int status;
	CHECK(MUST(waitpid(gone, &status, 0)) == gone && WEXITSTATUS(status) == 9);
	MUST(waitid(P_PID, (id_t)zombie, &info, WEXITED | WNOWAIT));

	int epoll = (int)MUST(epoll_create1(0));
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 77 };
	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, other, &event));

	int pair[2], in_flight = open_pidfd(living, 0);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	char byte = 'p';
	struct iovec iov = { &byte, 1 };
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr header;
	} control = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	memcpy(CMSG_DATA(&control.header), &in_flight, sizeof in_flight);
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	MUST(sendmsg(pair[0], &message, 0));
	close(in_flight);

	ready_and_wait();

	CHECK((MUST(fcntl(self, F_GETFL)) & O_NONBLOCK) && !(MUST(fcntl(other, F_GETFL)) & O_NONBLOCK));
	CHECK(!has_ended(self) && !has_ended(other) && has_ended(dead) && has_ended(lost));
	CHECK(can_signal(self) && can_signal(other));
	CHECK(!can_signal(lost) && errno == ESRCH);
	CHECK(waitid(P_PIDFD, (id_t)lost, &info, WEXITED) == -1 && errno == ECHILD);
	MUST(waitid(P_PIDFD, (id_t)dead, &info, WEXITED));
	CHECK(info.si_pid == zombie && info.si_code == CLD_EXITED && info.si_status == 7, "%d", info.si_status);

	int received;
	message.msg_controllen = sizeof control;
	CHECK(MUST(recvmsg(pair[1], &message, 0)) == 1 && byte == 'p');
	memcpy(&received, CMSG_DATA(&control.header), sizeof received);
	CHECK(!has_ended(received) && epoll_wait(epoll, &event, 1, 0) == 0);
	MUST(syscall(SYS_pidfd_send_signal, received, SIGTERM, NULL, 0));
	MUST(waitid(P_PIDFD, (id_t)other, &info, WEXITED));
	CHECK(info.si_pid == living && info.si_code == CLD_KILLED && info.si_status == SIGTERM);
	CHECK(has_ended(received) && epoll_wait(epoll, &event, 1, 0) == 1 && event.data.u64 == 77);
	return well();
}
