// Waits in a system call that may be restarted, with registers that it knows; exits with 1 if it finds anything changed.
// With the argument `elsewhere` it waits on a stack outside of the main one, with `sleep` it sleeps for a second.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t taken;
static void handler(int signal) { (void)signal; taken++; }

static int checked_read(char *byte) {
    long result, seen = 0;
    double in[2] = {1.25, -3.5}, out[2] = {0};
    register long r10 __asm__("r10") = 1, r8 __asm__("r8") = 2, r9 __asm__("r9") = 3;
    // read(0, byte, 1), with every register that a system call keeps holding a known value.
    __asm__ volatile(
        "movupd (%[in]), %%xmm15\n mov $0x5151, %%rbx\n mov $0x5252, %%r12\n mov $0x5353, %%r13\n"
        "xor %%eax, %%eax\n xor %%edi, %%edi\n mov $1, %%edx\n std\n syscall\n"
        "pushfq\n pop %%rcx\n cld\n"
        "movupd %%xmm15, (%[out])\n"
        "cmp $0x5151, %%rbx\n jne 1f\n cmp $0x5252, %%r12\n jne 1f\n cmp $0x5353, %%r13\n jne 1f\n"
        "cmp $1, %%r10\n jne 1f\n cmp $2, %%r8\n jne 1f\n cmp $3, %%r9\n jne 1f\n test $0x400, %%ecx\n jz 1f\n"
        "mov $1, %[seen]\n 1:\n"
        : "=a"(result), [seen] "+r"(seen), "+r"(r10), "+r"(r8), "+r"(r9)
        : "S"(byte), [in] "r"(in), [out] "r"(out)
        : "rbx", "rcx", "rdx", "rdi", "r11", "r12", "r13", "xmm15", "memory", "cc");
    return result == 1 && seen == 1 && !memcmp(in, out, sizeof in);
}

static int outcome = 1;
// No signal handler runs, so no call may say that it was interrupted.
static void sleep_a_while(void) {
    struct timespec asked = {1, 0};
    puts("ready");
    fflush(stdout);
    outcome = nanosleep(&asked, NULL) != 0;
}

static void wait_for_a_byte(void) {
    char byte;
    sigset_t before, after;
    sigprocmask(SIG_SETMASK, NULL, &before);
    puts("ready");
    fflush(stdout);
    int well = checked_read(&byte);
    sigprocmask(SIG_SETMASK, NULL, &after);
    outcome = !(well && !memcmp(&before, &after, sizeof(long)));
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (argc == 1) {
        wait_for_a_byte();
    } else if (!strcmp(argv[1], "sleep")) {
        sleep_a_while();
    } else {
        static ucontext_t here, there;
        getcontext(&there);
        there.uc_stack.ss_size = 65536;
        there.uc_stack.ss_sp = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        there.uc_link = &here;
        makecontext(&there, wait_for_a_byte, 0);
        swapcontext(&here, &there);
    }
    return outcome;
}
