// AMX tiles keep their rows, where the CPU has them; elsewhere there is nothing to keep.
#include "subject.h"
#include <cpuid.h>
#include <pthread.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18
static volatile int flag;
static unsigned char in[8][1024], out[8][1024];
static struct { unsigned char palette, start_row, reserved[14]; uint16_t columns[16]; unsigned char rows[16]; } config, config_out;

static void *watch(void *unused)
{
	ready_and_wait();
	flag = 1;
	return unused;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	unsigned a, b, c, d;
	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & 1u << 24)) {
		not_exercised("AMX: the processor has none");
		ready_and_wait();
		return well();
	}
	MUST(syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA));
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < 1024; j++)
			in[i][j] = (unsigned char)(i * 31 + j * 3 + 1);
	config.palette = 1;
	for (int i = 0; i < 8; i++)
		config.columns[i] = 64, config.rows[i] = 16;
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, watch, NULL) == 0);
	asm volatile(
		"ldtilecfg (%[config])\n"
		".irp n,0,1,2,3,4,5,6,7\n tileloadd \\n*1024(%[in],%[stride],1), %%tmm\\n\n .endr\n"
		"1: movl (%[flag]), %%eax\n test %%eax, %%eax\n jz 1b\n"
		".irp n,0,1,2,3,4,5,6,7\n tilestored %%tmm\\n, \\n*1024(%[out],%[stride],1)\n .endr\n"
		"sttilecfg (%[config_out])\n tilerelease\n"
		: : [config] "r"(&config), [config_out] "r"(&config_out), [in] "r"(in), [out] "r"(out),
		[stride] "r"(64L), [flag] "r"(&flag) : "rax", "memory");
	CHECK(!memcmp(in, out, sizeof in), "tiles");
	CHECK(!memcmp(&config, &config_out, sizeof config), "tile configuration");
	pthread_join(thread, NULL);
	return well();
}
