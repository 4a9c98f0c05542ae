// Waits in a system call that may be restarted, with registers that it knows; exits with 1 if it finds anything changed.
// With the argument `poll` it has a time-out for that, with `elsewhere` it waits on a stack outside of the main one, with `sleep` it sleeps for a second,
// with `handle` until a signal comes.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile sig_atomic_t taken, handler_reads;
static void handler(int signal) {
    char byte;
    (void)signal;
    if (handler_reads && read(0, &byte, 1) != 1) _exit(1);
    taken++;
}

// Makes a system call that is to return 1, with every register that a system call keeps holding a known value.
static int checked_call(long number, long first, long second, long third) {
    long seen = 0;
    double in[2] = {1.25, -3.5}, out[2] = {0};
    register long r10 __asm__("r10") = 1, r8 __asm__("r8") = 2, r9 __asm__("r9") = 3;
    long kept[3] = {first, second, third};
    __asm__ volatile(
        "movupd (%[in]), %%xmm15\n mov $0x5151, %%rbx\n mov $0x5252, %%r12\n mov $0x5353, %%r13\n mov $0x5454, %%r15\n"
        "std\n syscall\n"
        "pushfq\n pop %%rcx\n cld\n"
        "movupd %%xmm15, (%[out])\n"
        "cmp $0x5151, %%rbx\n jne 1f\n cmp $0x5252, %%r12\n jne 1f\n cmp $0x5353, %%r13\n jne 1f\n cmp $0x5454, %%r15\n jne 1f\n"
        "cmp $1, %%r10\n jne 1f\n cmp $2, %%r8\n jne 1f\n cmp $3, %%r9\n jne 1f\n test $0x400, %%ecx\n jz 1f\n"
        "movq $1, %[seen]\n 1:\n"
        : "+a"(number), "+D"(first), "+S"(second), "+d"(third), [seen] "+m"(seen), "+r"(r10), "+r"(r8), "+r"(r9)
        : [in] "r"(in), [out] "r"(out)
        : "rbx", "rcx", "r11", "r12", "r13", "r15", "xmm15", "memory", "cc");
    return number == 1 && seen == 1 && !memcmp(in, out, sizeof in) && first == kept[0] && second == kept[1] && third == kept[2];
}

static int outcome = 1;
// No signal handler runs, so no call may say that it was interrupted.
static void sleep_a_while(void) {
    struct timespec asked = {1, 0};
    puts("ready");
    fflush(stdout);
    outcome = nanosleep(&asked, NULL) != 0;
}

// A handler that takes its time is called while it sleeps: only then the sleep is interrupted.
static void sleep_and_handle(void) {
    struct timespec asked = {1000, 0};
    handler_reads = 1;
    puts("ready");
    fflush(stdout);
    outcome = !(nanosleep(&asked, NULL) == -1 && errno == EINTR && taken == 1);
}

static int polls;
static void wait_for_a_byte(void) {
    char byte;
    sigset_t before, after;
    sigprocmask(SIG_SETMASK, NULL, &before);
    puts("ready");
    fflush(stdout);
    struct pollfd waits = {0, POLLIN, 0};
    int well = polls ? checked_call(SYS_poll, (long)&waits, 1, 1000000) : checked_call(SYS_read, 0, (long)&byte, 1);
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
    polls = argc > 1 && !strcmp(argv[1], "poll");
    if (argc == 1 || polls) {
        wait_for_a_byte();
    } else if (!strcmp(argv[1], "sleep")) {
        sleep_a_while();
    } else if (!strcmp(argv[1], "handle")) {
        sleep_and_handle();
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
