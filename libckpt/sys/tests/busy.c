// Threads that compute, sleep, wait and take signals; exits with 1 when any of them sees something that it should not.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t taken;
static void handler(int signal) { (void)signal; taken++; }

static void fail(const char *what) {
    fprintf(stderr, "busy: %s\n", what);
    _exit(1);
}

static void *compute(void *arg) {
    unsigned long seed = (unsigned long)arg, a = seed, b = seed;
    double x = (double)seed, y = (double)seed;
    for (;;) {
        for (int i = 0; i < 1000; i++) { a = a * 6364136223846793005UL + 1442695040888963407UL; x = x * 0.5 + 1.0; }
        for (int i = 0; i < 1000; i++) { b = b * 6364136223846793005UL + 1442695040888963407UL; y = y * 0.5 + 1.0; }
        if (a != b || memcmp(&x, &y, sizeof x)) fail("registers changed");
    }
}

static void *sleeper(void *arg) {
    (void)arg;
    for (;;) {
        struct timespec asked = {0, 3000000}, begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        if (nanosleep(&asked, NULL)) fail("nanosleep was interrupted");
        clock_gettime(CLOCK_MONOTONIC, &end);
        long ns = (end.tv_sec - begin.tv_sec) * 1000000000L + end.tv_nsec - begin.tv_nsec;
        if (ns < 3000000) fail("nanosleep ended early");
        if (poll(NULL, 0, 2) != 0) fail("poll was interrupted");
    }
}

static void *piper(void *arg) {
    int *ends = arg;
    for (unsigned char i = 0;; i++) {
        unsigned char got;
        if (write(ends[1], &i, 1) != 1) fail("write");
        if (read(ends[0], &got, 1) != 1 || got != i) fail("read");
    }
}

int main(void) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    pthread_t thread;
    sigset_t set;
    sigfillset(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (unsigned long i = 0; i < 4; i++) pthread_create(&thread, NULL, compute, (void *)(i + 1));
    for (int i = 0; i < 8; i++) pthread_create(&thread, NULL, sleeper, NULL);
    static int ends[2][2];
    for (int i = 0; i < 2; i++) { if (pipe(ends[i])) return 1; pthread_create(&thread, NULL, piper, ends[i]); }
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    struct itimerval timer = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    puts("ready");
    fflush(stdout);
    char byte;
    // SA_RESTART: the read goes on after every signal.
    if (read(0, &byte, 1) != 1) fail("read of stdin was interrupted");
    printf("%d\n", taken > 0);
    return 0;
}
