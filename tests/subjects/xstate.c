// Every vector register that the CPU has, the mask registers, x87, MXCSR and PKRU keep their bits.
#include "subject.h"
#include <cpuid.h>
#include <immintrin.h>

#define SPIN "1: movl (%[flag]), %%eax\n test %%eax, %%eax\n jz 1b\n"
static volatile int flag;
static unsigned char in[32][64], out[32][64];
static uint64_t masks_in[8], masks_out[8];

static void *watch(void *unused)
{
	ready_and_wait();
	flag = 1;
	return unused;
}

static void with_avx512(void)
{
	asm volatile(
		".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
		"vmovdqu64 \\n*64(%[in]), %%zmm\\n\n .endr\n"
		".irp n,0,1,2,3,4,5,6,7\n kmovq \\n*8(%[min]), %%k\\n\n .endr\n" SPIN
		".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
		"vmovdqu64 %%zmm\\n, \\n*64(%[out])\n .endr\n"
		".irp n,0,1,2,3,4,5,6,7\n kmovq %%k\\n, \\n*8(%[mout])\n .endr\n"
		: : [in] "r"(in), [out] "r"(out), [min] "r"(masks_in), [mout] "r"(masks_out), [flag] "r"(&flag)
		: "rax", "memory");
}

static void with_avx(void)
{
	asm volatile(
		".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu \\n*64(%[in]), %%ymm\\n\n .endr\n" SPIN
		".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu %%ymm\\n, \\n*64(%[out])\n .endr\n"
		: : [in] "r"(in), [out] "r"(out), [flag] "r"(&flag) : "rax", "memory",
		"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

#include <pthread.h>
int main(int argc, char **argv)
{
	begin(argc, argv);
	for (int i = 0; i < 32; i++)
		for (int j = 0; j < 64; j++)
			in[i][j] = (unsigned char)(i * 7 + j * 13 + 1);
	for (int i = 0; i < 8; i++)
		masks_in[i] = 0x0123456789abcdefULL * (unsigned)(i + 3);
	double x87_in[3] = { 3.25, -1e300, 0.1 }, x87_out[3];
	unsigned mxcsr_in = 0x1f80 | 0x6000 | 0x8000, mxcsr_out; // round to zero, flush to zero
	unsigned short control_in = 0x0c7f, control_out;
	int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
	int avx = __builtin_cpu_supports("avx");
	if (!avx512)
		not_exercised(avx ? "AVX-512: the processor has none" : "AVX and AVX-512: the processor has none");
	unsigned leaf[4];
	int pku = __get_cpuid_count(7, 0, &leaf[0], &leaf[1], &leaf[2], &leaf[3]) && leaf[2] & 1u << 4; // OSPKE
	if (!pku)
		not_exercised("PKRU: the processor or the kernel has no protection keys");
	unsigned pkru_in = 0, pkru_out = 0;
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, watch, NULL) == 0);
	if (pku) {
		asm volatile("rdpkru" : "=a"(pkru_in) : "c"(0) : "rdx");
		pkru_in ^= 0x90000000; // keys that no page has
		asm volatile("wrpkru" : : "a"(pkru_in), "c"(0), "d"(0));
	}
	_mm_setcsr(mxcsr_in);
	asm volatile("fldcw %0\n fldl %1\n fldl %2\n fldl %3" : : "m"(control_in), "m"(x87_in[0]), "m"(x87_in[1]), "m"(x87_in[2]));
	if (avx512)
		with_avx512();
	else if (avx)
		with_avx();
	else
		while (!flag)
			;
	asm volatile("fstpl %0\n fstpl %1\n fstpl %2\n fnstcw %3" : "=m"(x87_out[2]), "=m"(x87_out[1]), "=m"(x87_out[0]), "=m"(control_out));
	mxcsr_out = _mm_getcsr();
	_mm_setcsr(0x1f80);
	if (pku)
		asm volatile("rdpkru" : "=a"(pkru_out) : "c"(0) : "rdx");
	CHECK(pkru_out == pkru_in, "PKRU %x, was %x", pkru_out, pkru_in);
	CHECK((mxcsr_out & ~0x3fu) == (mxcsr_in & ~0x3fu), "MXCSR %x, was %x", mxcsr_out, mxcsr_in);
	CHECK(control_out == control_in, "x87 control word %x", control_out);
	CHECK(!memcmp(x87_in, x87_out, sizeof x87_in), "x87 stack");
	int registers = avx512 ? 32 : avx ? 16 : 0, bytes = avx512 ? 64 : 32;
	for (int i = 0; i < registers; i++)
		CHECK(!memcmp(in[i], out[i], bytes), "vector register %d", i);
	if (avx512)
		CHECK(!memcmp(masks_in, masks_out, sizeof masks_in), "mask registers");
	pthread_join(thread, NULL);
	return well();
}
