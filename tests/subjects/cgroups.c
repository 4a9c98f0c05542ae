// Processes and threads in control groups of their own. Arguments: the directory of a hierarchy of version 2 and of one of version 1 that has a name
// only, each or -, the name of the groups, and what to do: `own`; `namespace`, in a cgroup namespace that begins there; or `child`, the same in a child.
#include "subject.h"
#include <pthread.h>

static char group2[4096], group1[4096], name[256];

static const char *of(const char *group, const char *file)
{
	static char paths[4][8300];
	static int next;
	char *path = paths[next++ % 4];
	snprintf(path, sizeof paths[0], "%s/%s", group, file);
	return path;
}

static void put(const char *path, const char *text)
{
	int fd = (int)MUST(open(path, O_WRONLY));
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s: %s", path, text);
	MUST(close(fd));
}

static void says(const char *path, const char *wanted)
{
	char text[256];
	int fd = open(path, O_RDONLY);
	CHECK(fd >= 0, "%s", path);
	ssize_t length = MUST(read(fd, text, sizeof text - 1));
	MUST(close(fd));
	text[length] = 0;
	CHECK(!strcmp(text, wanted), "%s: %s", path, text);
}

static void belongs(const char *path, unsigned mode, unsigned owner)
{
	struct stat status;
	MUST(stat(path, &status));
	CHECK((status.st_mode & 07777) == mode && status.st_uid == owner, "%s: %o %u", path, status.st_mode, status.st_uid);
}

// Whether this thread is in the group `path` of the hierarchy `hierarchy`.
static void is_in(const char *hierarchy, const char *path)
{
	char text[4096], wanted[1024], file[64];
	snprintf(file, sizeof file, "/proc/thread-self/cgroup");
	snprintf(wanted, sizeof wanted, ":%s:%s\n", hierarchy, path);
	int fd = (int)MUST(open(file, O_RDONLY));
	ssize_t length = MUST(read(fd, text, sizeof text - 1));
	MUST(close(fd));
	text[length] = 0;
	CHECK(strstr(text, wanted), "%s in %s", wanted, text);
}

static char at2[512], at1[512], hierarchy1[300];
static pthread_barrier_t moved, go_on;

static void *thread(void *unused)
{
	if (*group2)
		put(of(group2, "threads/cgroup.threads"), "0");
	if (*group1)
		put(of(group1, "inner/tasks"), "0");
	pthread_barrier_wait(&moved);
	pthread_barrier_wait(&go_on);
	char path[600];
	if (*group2) {
		snprintf(path, sizeof path, "%s/threads", at2);
		is_in("", path);
	}
	if (*group1) {
		snprintf(path, sizeof path, "%s/inner", strcmp(at1, "/") ? at1 : "");
		is_in(hierarchy1, path);
	}
	return unused;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	const char *v2 = argv[2], *v1 = argv[3];
	snprintf(name, sizeof name, "%s", argv[4]);
	int namespace = strcmp(argv[5], "own");
	if (!strcmp(argv[5], "child")) {
		pid_t child = (pid_t)MUST(fork());
		if (child != 0) {
			child_must_be_well(child);
			return 0;
		}
		say_pid("child");
	}
	snprintf(at2, sizeof at2, "/%s", name);
	snprintf(at1, sizeof at1, "%s%s", namespace ? "/" : "/", namespace ? "" : name);
	snprintf(hierarchy1, sizeof hierarchy1, "name=%s", name);
	if (strcmp(v2, "-")) {
		snprintf(group2, sizeof group2, "%s/%s", v2, name);
		MUST(mkdir(group2, 0755));
		put(of(group2, "cgroup.max.depth"), "7");
		put(of(group2, "cgroup.max.descendants"), "9");
		MUST(mkdir(of(group2, "threads"), 0711));
		put(of(group2, "threads/cgroup.type"), "threaded");
		MUST(chown(of(group2, "threads"), 12, 34));
		MUST(chown(of(group2, "threads/cgroup.threads"), 12, 34));
		put(of(group2, "cgroup.procs"), "0");
	}
	if (strcmp(v1, "-")) {
		snprintf(group1, sizeof group1, "%s/%s", v1, name);
		MUST(mkdir(group1, 0755));
		MUST(mkdir(of(group1, "inner"), 0700));
		MUST(mkdir(of(group1, "empty"), 0750));
		put(of(group1, "inner/notify_on_release"), "1");
		MUST(chmod(of(group1, "tasks"), 0666));
		put(of(group1, "cgroup.procs"), "0");
	}
	if (namespace) {
		MUST(unshare(CLONE_NEWCGROUP));
		strcpy(at2, "");
	}
	int to_child[2], from_child[2];
	MUST(pipe(to_child));
	MUST(pipe(from_child));
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		if (*group1)
			put(of(group1, "inner/cgroup.procs"), "0");
		char byte = 1;
		MUST(write(from_child[1], &byte, 1));
		MUST(read(to_child[0], &byte, 1));
		if (*group1) {
			char path[600];
			snprintf(path, sizeof path, "%s/inner", strcmp(at1, "/") ? at1 : "");
			is_in(hierarchy1, path);
		}
		if (*group2)
			is_in("", *at2 ? at2 : "/");
		_exit(0);
	}
	char byte;
	MUST(read(from_child[0], &byte, 1));
	pthread_t other;
	pthread_barrier_init(&moved, NULL, 2);
	pthread_barrier_init(&go_on, NULL, 2);
	CHECK(pthread_create(&other, NULL, thread, NULL) == 0);
	pthread_barrier_wait(&moved);

	ready_and_wait();

	pthread_barrier_wait(&go_on);
	pthread_join(other, NULL);
	int status;
	MUST(write(to_child[1], &byte, 1));
	MUST(waitpid(child, &status, 0));
	CHECK(status == 0, "%#x", status);
	if (*group2) {
		is_in("", *at2 ? at2 : "/");
		says(of(group2, "cgroup.max.depth"), "7\n");
		says(of(group2, "threads/cgroup.type"), "threaded\n");
		belongs(of(group2, "threads"), 0711, 12);
		belongs(of(group2, "threads/cgroup.threads"), 0644, 12);
	}
	if (*group1) {
		is_in(hierarchy1, at1);
		says(of(group1, "inner/notify_on_release"), "1\n");
		belongs(of(group1, "inner"), 0700, 0);
		belongs(of(group1, "empty"), 0750, 0);
		belongs(of(group1, "tasks"), 0666, 0);
	}
	return well();
}
