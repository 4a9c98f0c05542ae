// What every subject program needs: see tests/src/subject.rs for the protocol.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL

static const char *subject_dir;

static inline const char *in_dir(const char *name)
{
	static char paths[8][4096];
	static int next;
	char *path = paths[next++ % 8];
	snprintf(path, sizeof paths[0], "%s/%s", subject_dir, name);
	return path;
}

static inline void write_file(const char *name, const char *text)
{
	char path[4096], temporary[4096 + 4];
	snprintf(path, sizeof path, "%s/%s", subject_dir, name);
	snprintf(temporary, sizeof temporary, "%s.new", path);
	int fd = open(temporary, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd) || rename(temporary, path))
		abort();
}

// Ends the subject with what is wrong as its verdict.
__attribute__((format(printf, 1, 2), noreturn)) static inline void wrong(const char *format, ...)
{
	char text[2048];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	write_file("verdict", text);
	_exit(1);
}

// What must hold, before the checkpoint and after; says what did not, and errno.
#define CHECK(condition, ...)                                                                           \
	do {                                                                                            \
		if (!(condition)) {                                                                     \
			int error_ = errno;                                                             \
			char detail_[512];                                                              \
			snprintf(detail_, sizeof detail_, " " __VA_ARGS__);                             \
			wrong("%s:%d: not so: %s%s (errno: %s)", __FILE_NAME__, __LINE__, #condition, detail_, strerror(error_)); \
		}                                                                                       \
	} while (0)

// A system call that must succeed: its result.
#define MUST(call)                                                                                      \
	({                                                                                              \
		long result_ = (long)(call);                                                            \
		if (result_ == -1)                                                                      \
			wrong("%s:%d: %s: %s", __FILE_NAME__, __LINE__, #call, strerror(errno));          \
		result_;                                                                                \
	})

static inline void begin(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s DIRECTORY [ARG]...\n", argv[0]);
		exit(2);
	}
	subject_dir = argv[1];
}

// Says in the log that this machine lacks what a part of the subject is about; the test passes that on.
static inline void not_exercised(const char *what)
{
	dprintf(STDERR_FILENO, "not exercised: %s\n", what);
}

static inline int told(const char *name)
{
	return access(in_dir(name), F_OK) == 0;
}

static inline void tick(void)
{
	struct timespec ms = { .tv_nsec = 1000000 };
	nanosleep(&ms, NULL);
}

// The object stands. Waits until the test has done to the process what it wants.
static inline void ready_and_wait(void)
{
	write_file("ready", "");
	while (!told("go"))
		tick();
}

static inline int well(void)
{
	write_file("verdict", "ok");
	return 0;
}

// Waits for the other end of a pipe to be closed.
static inline void wait_for_go(int fd)
{
	char byte;
	CHECK(read(fd, &byte, 1) == 0);
}

static inline void child_must_be_well(pid_t child)
{
	int status;
	CHECK(waitpid(child, &status, 0) == child);
	// It has said what is wrong.
	if (status != 0)
		_exit(1);
}

static inline void say_number(const char *file, int value)
{
	char number[16];
	snprintf(number, sizeof number, "%d", value);
	write_file(file, number);
}

static inline void say_pid(const char *file)
{
	say_number(file, getpid());
}

// Whether another process waits in a system call.
static inline int sleeps(pid_t pid)
{
	char path[64], line[512] = "";
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && read(fd, line, sizeof line - 1) > 0);
	close(fd);
	return strrchr(line, ')')[2] == 'S';
}

static inline double seconds(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
