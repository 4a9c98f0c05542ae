// Pipes with what is in them: bytes, packets, a full one, one whose reader or writer is gone; and FIFOs.
#include "subject.h"
#include <poll.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	static char big[1 << 20], got[1 << 20];
	int some[2], empty[2], packets[2], full[2], no_writer[2], no_reader[2];
	MUST(pipe2(some, O_NONBLOCK));
	MUST(write(some[1], "hello, ", 7));
	MUST(write(some[1], "pipe", 4));
	MUST(pipe2(empty, O_CLOEXEC));
	MUST(pipe2(packets, O_DIRECT | O_NONBLOCK));
	MUST(write(packets[1], "first", 5));
	MUST(write(packets[1], "2nd", 3));
	MUST(pipe2(full, O_NONBLOCK));
	MUST(fcntl(full[1], F_SETPIPE_SZ, sizeof big));
	for (unsigned i = 0; i < sizeof big; i++)
		big[i] = (char)(i * 2654435761u >> 24);
	CHECK(write(full[1], big, sizeof big) == sizeof big);
	MUST(pipe(no_writer));
	MUST(write(no_writer[1], "last words", 10));
	close(no_writer[1]);
	MUST(pipe(no_reader));
	close(no_reader[0]);
	int again = MUST(dup(some[0]));
	MUST(mkfifo(in_dir("fifo"), 0600));
	int fifo_read = MUST(open(in_dir("fifo"), O_RDONLY | O_NONBLOCK)), fifo_write = MUST(open(in_dir("fifo"), O_WRONLY));
	MUST(write(fifo_write, "through a fifo", 14));
	ready_and_wait();

	char text[64] = { 0 };
	CHECK(read(again, text, 7) == 7 && !strcmp(text, "hello, "), "%s", text);
	memset(text, 0, sizeof text);
	CHECK(read(some[0], text, sizeof text) == 4 && !strcmp(text, "pipe"), "%s", text);
	CHECK(read(some[0], text, 1) == -1 && errno == EAGAIN);
	CHECK(write(empty[1], "e", 1) == 1 && read(empty[0], text, 4) == 1);
	CHECK(fcntl(empty[0], F_GETFD) == FD_CLOEXEC && !(fcntl(empty[0], F_GETFL) & O_NONBLOCK));
	CHECK(read(packets[0], text, sizeof text) == 5 && !memcmp(text, "first", 5), "packets have run together");
	CHECK(read(packets[0], text, 2) == 2 && !memcmp(text, "2n", 2));
	CHECK(read(packets[0], text, sizeof text) == -1 && errno == EAGAIN, "the rest of a packet was kept");
	CHECK(fcntl(full[0], F_GETPIPE_SZ) == sizeof big, "capacity %d", fcntl(full[0], F_GETPIPE_SZ));
	CHECK(write(full[1], "x", 1) == -1 && errno == EAGAIN, "the full pipe takes more");
	CHECK(read(full[0], got, sizeof got) == sizeof got && !memcmp(big, got, sizeof got));
	CHECK(read(no_writer[0], text, 20) == 10 && !memcmp(text, "last words", 10) && read(no_writer[0], text, 1) == 0);
	CHECK(write(no_reader[1], "x", 1) == -1 && errno == EPIPE);
	CHECK(read(fifo_read, text, sizeof text) == 14 && !memcmp(text, "through a fifo", 14));
	CHECK(write(fifo_write, "!", 1) == 1 && read(fifo_read, text, 2) == 1);
	return well();
}
