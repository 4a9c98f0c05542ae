// Descriptors that are under way in a UNIX socket, one of which the process itself has closed.
#include "subject.h"
#include <sys/socket.h>

static void send_fds(int socket, const char *text, int *fds, unsigned n)
{
	char control[CMSG_SPACE(4 * sizeof(int))] = { 0 };
	struct iovec iov = { (char *)text, strlen(text) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(header), fds, n * sizeof(int));
	MUST(sendmsg(socket, &message, 0));
}

static unsigned receive_fds(int socket, char *text, int *fds)
{
	char control[CMSG_SPACE(4 * sizeof(int))] = { 0 };
	struct iovec iov = { text, 64 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	text[MUST(recvmsg(socket, &message, 0))] = 0;
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	if (!header)
		return 0;
	CHECK(header->cmsg_type == SCM_RIGHTS);
	memcpy(fds, CMSG_DATA(header), header->cmsg_len - CMSG_LEN(0));
	return (unsigned)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int stream[2], dgram[2], pipes[2], fds[4];
	char text[65];
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, dgram));
	MUST(pipe(pipes));
	MUST(write(pipes[1], "in the pipe", 11));
	int file = MUST(open(in_dir("file"), O_RDWR | O_CREAT, 0600));
	MUST(write(file, "in the file", 11));
	MUST(lseek(file, 7, SEEK_SET));
	send_fds(stream[0], "two descriptors", (int[]){ pipes[0], file }, 2);
	close(pipes[0]); // only under way now
	send_fds(dgram[0], "itself", (int[]){ file }, 1);
	ready_and_wait();
	CHECK(receive_fds(stream[1], text, fds) == 2 && !strcmp(text, "two descriptors"), "%s", text);
	CHECK(read(fds[0], text, 64) == 11 && !memcmp(text, "in the pipe", 11));
	CHECK(read(fds[1], text, 64) == 4 && !memcmp(text, "file", 4));
	CHECK(lseek(file, 0, SEEK_CUR) == 11, "the descriptor under way was another description");
	MUST(write(pipes[1], "more", 4));
	CHECK(read(fds[0], text, 64) == 4);
	CHECK(receive_fds(dgram[1], text, fds) == 1 && !strcmp(text, "itself"));
	CHECK(lseek(fds[0], 0, SEEK_CUR) == 11);
	return well();
}
