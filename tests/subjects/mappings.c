// Mappings of each ordinary kind, with their protection, advice, names, locks and guard regions.
#include "subject.h"
#include <setjmp.h>
#include <sys/prctl.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#define MADV_GUARD_INSTALL 102
#define SIZE (16 * PAGE)
#define TERABYTES(n) ((size_t)(n) << 40)

static sigjmp_buf back;

static void fault(int signal)
{
	siglongjmp(back, signal);
}

static int faults(volatile char *at)
{
	int signal = sigsetjmp(back, 1);
	if (signal == 0)
		(void)*at;
	return signal;
}

static char *map(int prot, int flags)
{
	char *at = mmap(NULL, SIZE, prot, MAP_ANONYMOUS | flags, -1, 0);
	CHECK(at != MAP_FAILED);
	return at;
}

static const int advice[] = { MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTFORK, MADV_DONTDUMP, MADV_WIPEONFORK, MADV_MERGEABLE, MADV_SEQUENTIAL, MADV_RANDOM };
#define ADVICE (sizeof advice / sizeof *advice)

int main(int argc, char **argv)
{
	begin(argc, argv);
	signal(SIGSEGV, fault);
	int file = MUST(open(in_dir("mapped"), O_RDWR | O_CREAT, 0644));
	for (unsigned i = 0; i < SIZE / PAGE; i++)
		MUST(pwrite(file, "file", 4, i * PAGE));

	char *private_file = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	char *shared_file = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 2 * PAGE);
	char *read_file = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, file, 0);
	strcpy(private_file + 3 * PAGE, "private");
	strcpy(shared_file + PAGE, "shared");
	close(file);
	char *code = map(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE);
	memcpy(code, "\xb8\x2a\0\0\0\xc3", 6); // mov $42, %eax; ret
	MUST(mprotect(code, SIZE, PROT_READ | PROT_EXEC));
	char *read_only = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	strcpy(read_only, "read only");
	MUST(mprotect(read_only, SIZE, PROT_READ));
	char *none = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	strcpy(none + PAGE, "hidden");
	MUST(mprotect(none, SIZE, PROT_NONE));
	char *locked = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_LOCKED);
	strcpy(locked, "locked");
	char *on_fault = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	MUST(mlock2(on_fault, SIZE, MLOCK_ONFAULT));
	char *no_reserve = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);
	strcpy(no_reserve, "no reserve");
	char *named = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int has_names = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, named, SIZE, "a name") == 0;
	char *advised[ADVICE];
	for (unsigned i = 0; i < ADVICE; i++) {
		advised[i] = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
		advised[i][PAGE] = (char)('A' + i);
		if (madvise(advised[i], SIZE, advice[i]) != 0)
			CHECK(errno == EINVAL, "advice %d", advice[i]); // not in this kernel
	}
	char *guarded = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	strcpy(guarded, "before the guard");
	int has_guards = madvise(guarded + 4 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL) == 0;
	char *hole = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	MUST(munmap(hole + 5 * PAGE, 2 * PAGE));
	hole[0] = 'h', hole[7 * PAGE] = 'i';
	char *reserved = mmap(NULL, TERABYTES(16), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(reserved != MAP_FAILED);
	MUST(mprotect(reserved + TERABYTES(9), PAGE, PROT_READ | PROT_WRITE));
	strcpy(reserved + TERABYTES(9), "far away");
	ready_and_wait();

	CHECK(!strcmp(private_file, "file") && !strcmp(private_file + 3 * PAGE, "private"));
	CHECK(!strcmp(shared_file + PAGE, "shared") && !strcmp(shared_file, "file"));
	CHECK(!strcmp(read_file + 3 * PAGE, "shared"), "two mappings of one file");
	strcpy(shared_file + 2 * PAGE, "written");
	CHECK(!strcmp(read_file + 4 * PAGE, "written"), "a shared mapping that has become private");
	strcpy(shared_file + 2 * PAGE, "file");
	CHECK(((int (*)(void))code)() == 42);
	CHECK(!strcmp(read_only, "read only"));
	CHECK(faults(none + PAGE) == SIGSEGV);
	MUST(mprotect(none, SIZE, PROT_READ));
	CHECK(!strcmp(none + PAGE, "hidden"));
	CHECK(!strcmp(locked, "locked") && !strcmp(no_reserve, "no reserve") && on_fault[5] == 0);
	CHECK(named[0] == 0 || !has_names);
	for (unsigned i = 0; i < ADVICE; i++)
		CHECK(advised[i][PAGE] == (char)('A' + i), "advice %d", advice[i]);
	CHECK(!strcmp(guarded, "before the guard"));
	if (has_guards)
		CHECK(faults(guarded + 4 * PAGE) == SIGSEGV && faults(guarded + 5 * PAGE + 99) == SIGSEGV && !faults(guarded + 6 * PAGE));
	CHECK(hole[0] == 'h' && hole[7 * PAGE] == 'i' && faults(hole + 5 * PAGE) == SIGSEGV);
	CHECK(!strcmp(reserved + TERABYTES(9), "far away"));
	CHECK(faults(reserved + TERABYTES(3)) == SIGSEGV);
	return well();
}
