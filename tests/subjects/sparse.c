// 256 MiB of which little is there: pages never touched, pages read only, pages filled with zeros.
#include "subject.h"

#define PAGES 65536L

int main(int argc, char **argv)
{
	begin(argc, argv);
	volatile unsigned char *at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	volatile unsigned char *shared = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int sum = 0;
	for (long n = 0; n < 4000; n++)
		sum += at[n * PAGE];
	for (long n = 10000; n < 14000; n++)
		at[n * PAGE + 5] = 0;
	for (long n = 0; n < 1000; n++)
		shared[n * PAGE] = 0;
	for (long n = 20000; n < 20010; n++)
		at[n * PAGE] = (unsigned char)n, shared[n * PAGE] = (unsigned char)n;
	CHECK(sum == 0);
	ready_and_wait();
	for (long n = 0; n < PAGES; n += n < 20010 ? 1 : 64) {
		unsigned char want = n >= 20000 && n < 20010 ? (unsigned char)n : 0;
		CHECK(at[n * PAGE] == want && shared[n * PAGE] == want, "page %ld", n);
	}
	return well();
}
