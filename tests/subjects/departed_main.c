// The main thread ends, with a status, before the others; those count, and one of them sees to the rest.
#include "subject.h"
#include <pthread.h>

static volatile unsigned long counted[2];
static volatile int over;

static void *count(void *which)
{
	while (!over) {
		counted[(long)which]++;
		tick();
	}
	return NULL;
}

// The state of the main thread, and the status that it ended with.
static char main_thread(int *status)
{
	char path[64], line[1024] = "";
	snprintf(path, sizeof path, "/proc/%d/task/%d/stat", getpid(), getpid());
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && read(fd, line, sizeof line - 1) > 0);
	close(fd);
	char *at = strrchr(line, ')') + 2, state = *at;
	for (int field = 3; field < 52; field++)
		at = strchr(at, ' ') + 1;
	*status = atoi(at);
	return state;
}

static void *see(void *unused)
{
	(void)unused;
	int status;
	while (main_thread(&status) != 'Z')
		tick();
	CHECK(status == 7 << 8, "%#x", status);
	int file = (int)MUST(open(in_dir("file"), O_CREAT | O_RDWR, 0644));
	CHECK(write(file, "before", 6) == 6);
	pid_t child = fork();
	if (child == 0) {
		for (;;)
			pause();
	}
	MUST(child);
	char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	strcpy(shared, "shared");

	ready_and_wait();

	while (main_thread(&status) != 'Z')
		tick();
	CHECK(status == 7 << 8, "%#x", status);
	CHECK(lseek(file, 0, SEEK_CUR) == 6 && !strcmp(shared, "shared"));
	unsigned long before[] = { counted[0], counted[1] };
	while (counted[0] == before[0] || counted[1] == before[1])
		tick();
	MUST(kill(child, SIGTERM));
	CHECK(waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGTERM);
	over = 1;
	exit(well());
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	pthread_t thread;
	CHECK(!pthread_create(&thread, NULL, count, (void *)0));
	CHECK(!pthread_create(&thread, NULL, count, (void *)1));
	CHECK(!pthread_create(&thread, NULL, see, NULL));
	syscall(SYS_exit, 7);
}
