// timerfds: armed, disarmed, expired and not read yet, with a period.
#include "subject.h"
#include <sys/timerfd.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	int far = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)), absolute = MUST(timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC)),
	    disarmed = MUST(timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK)), expired = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)),
	    running = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
	struct itimerspec spec = { .it_value = { 3000, 5 }, .it_interval = { 17, 0 } }, now;
	MUST(timerfd_settime(far, 0, &spec, NULL));
	struct timespec wall;
	clock_gettime(CLOCK_REALTIME, &wall);
	spec = (struct itimerspec){ .it_value = { wall.tv_sec + 5000, 0 } };
	MUST(timerfd_settime(absolute, TFD_TIMER_ABSTIME, &spec, NULL));
	spec = (struct itimerspec){ .it_value = { 0, 1000000 } };
	MUST(timerfd_settime(expired, 0, &spec, NULL));
	spec = (struct itimerspec){ .it_value = { 0, 1000000 }, .it_interval = { 0, 1000000 } };
	MUST(timerfd_settime(running, 0, &spec, NULL));
	struct timespec ms20 = { .tv_nsec = 20000000 };
	nanosleep(&ms20, NULL);
	ready_and_wait();
	uint64_t ticks = 0;
	MUST(timerfd_gettime(far, &now));
	CHECK(now.it_value.tv_sec < 3000 && now.it_value.tv_sec > 2000 && now.it_interval.tv_sec == 17, "%ld", now.it_value.tv_sec);
	CHECK(read(far, &ticks, 8) == -1 && errno == EAGAIN);
	MUST(timerfd_gettime(absolute, &now));
	CHECK(now.it_value.tv_sec < 5000 && now.it_value.tv_sec > 4000, "%ld", now.it_value.tv_sec);
	MUST(timerfd_gettime(disarmed, &now));
	CHECK(now.it_value.tv_sec == 0 && now.it_value.tv_nsec == 0);
	CHECK(read(disarmed, &ticks, 8) == -1 && errno == EAGAIN);
	CHECK(read(expired, &ticks, 8) == 8 && ticks == 1, "%lu ticks", ticks);
	CHECK(read(expired, &ticks, 8) == -1 && errno == EAGAIN);
	CHECK(read(running, &ticks, 8) == 8 && ticks >= 19, "%lu ticks", ticks);
	CHECK(read(running, &ticks, 8) == 8 && ticks >= 1, "it stands still");
	CHECK(fcntl(absolute, F_GETFD) == FD_CLOEXEC);
	return well();
}
