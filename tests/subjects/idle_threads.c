// Many threads that wait, each in a read that ends when the program is told to go: `idle_threads DIRECTORY COUNT`.
#include "subject.h"
#include <pthread.h>

static int go[2];

static void *wait_in_a_read(void *unused)
{
	(void)unused;
	char byte;
	CHECK(read(go[0], &byte, 1) == 1 && byte == 'g');
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int count = argc > 2 ? atoi(argv[2]) : 64;
	pthread_t threads[count];
	MUST(pipe2(go, O_CLOEXEC));
	for (int i = 0; i < count; i++)
		CHECK(pthread_create(&threads[i], NULL, wait_in_a_read, NULL) == 0);
	ready_and_wait();
	for (int i = 0; i < count; i++)
		CHECK(write(go[1], "g", 1) == 1);
	for (int i = 0; i < count; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	return well();
}
