// What a process has besides memory and files: directories, umask, limits, personality and the prctl(2) settings.
#include "subject.h"
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static void proc_write(const char *file, const char *value)
{
	int fd = MUST(open(file, O_WRONLY));
	MUST(write(fd, value, strlen(value)));
	close(fd);
}

static void proc_is(const char *file, const char *value)
{
	char text[64] = { 0 };
	int fd = MUST(open(file, O_RDONLY));
	MUST(read(fd, text, sizeof text - 1));
	close(fd);
	CHECK(!strncmp(text, value, strlen(value)), "%s is %s", file, text);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	char cwd[4096];
	MUST(mkdir(in_dir("work ing"), 0755));
	MUST(chdir(in_dir("work ing")));
	umask(0137);
	proc_write("/proc/self/oom_score_adj", "321");
	proc_write("/proc/self/coredump_filter", "0x2b");
	MUST(personality(ADDR_NO_RANDOMIZE | UNAME26));
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	MUST(prctl(PR_SET_PDEATHSIG, SIGURG));
	MUST(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	MUST(prctl(PR_SET_NAME, "odd) name ("));
	struct rlimit lower, files = { .rlim_cur = 200, .rlim_max = 300 }, core = { .rlim_cur = 4096, .rlim_max = 8192 };
	MUST(setrlimit(RLIMIT_NOFILE, &files));
	MUST(setrlimit(RLIMIT_CORE, &core));
	ready_and_wait();
	MUST((long)getcwd(cwd, sizeof cwd));
	CHECK(!strcmp(cwd, in_dir("work ing")), "cwd %s", cwd);
	CHECK(umask(0) == 0137);
	proc_is("/proc/self/oom_score_adj", "321");
	proc_is("/proc/self/coredump_filter", "0000002b");
	CHECK(personality(0xffffffff) == (ADDR_NO_RANDOMIZE | UNAME26));
	int value = 0;
	MUST(prctl(PR_GET_CHILD_SUBREAPER, &value));
	CHECK(value == 1);
	MUST(prctl(PR_GET_PDEATHSIG, &value));
	CHECK(value == SIGURG, "pdeathsig %d", value);
	CHECK(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1);
	proc_is("/proc/self/comm", "odd) name (");
	MUST(getrlimit(RLIMIT_NOFILE, &lower));
	CHECK(lower.rlim_cur == 200 && lower.rlim_max == 300, "%lu %lu", lower.rlim_cur, lower.rlim_max);
	MUST(getrlimit(RLIMIT_CORE, &lower));
	CHECK(lower.rlim_cur == 4096 && lower.rlim_max == 8192);
	return well();
}
