// User and group ids, supplementary groups, capability sets, securebits, no_new_privs.
#include "subject.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

static struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
#define BIT(cap) (1u << (cap))
#define SECUREBITS (SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED)

int main(int argc, char **argv)
{
	begin(argc, argv);
	gid_t groups[] = { 30, 40, 50 }, groups_now[8];
	MUST(chmod(subject_dir, 0777));
	umask(0);
	MUST(prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE));
	MUST(prctl(PR_CAPBSET_DROP, CAP_MKNOD));
	MUST(setgroups(3, groups));
	MUST(setresgid(1001, 1002, 1003));
	MUST(prctl(PR_SET_SECUREBITS, SECUREBITS));
	MUST(setresuid(1001, 1002, 1003));
	setfsuid(1001);
	struct __user_cap_data_struct caps[2] = { { 0 } }, now[2];
	caps[0].permitted = BIT(CAP_CHOWN) | BIT(CAP_NET_ADMIN) | BIT(CAP_SYS_NICE);
	caps[0].effective = BIT(CAP_NET_ADMIN);
	caps[0].inheritable = BIT(CAP_CHOWN) | BIT(CAP_SYS_NICE);
	MUST(syscall(SYS_capset, &header, caps));
	MUST(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ready_and_wait();
	uid_t r, e, s;
	MUST(getresuid(&r, &e, &s));
	CHECK(r == 1001 && e == 1002 && s == 1003, "uids %d %d %d", r, e, s);
	MUST(getresgid(&r, &e, &s));
	CHECK(r == 1001 && e == 1002 && s == 1003, "gids %d %d %d", r, e, s);
	CHECK(setfsuid(-1) == 1001);
	CHECK(getgroups(8, groups_now) == 3 && !memcmp(groups, groups_now, sizeof groups));
	MUST(syscall(SYS_capget, &header, now));
	CHECK(!memcmp(caps, now, sizeof caps), "capabilities %x %x %x", now[0].permitted, now[0].effective, now[0].inheritable);
	CHECK(prctl(PR_CAPBSET_READ, CAP_SYS_MODULE) == 0 && prctl(PR_CAPBSET_READ, CAP_MKNOD) == 0);
	CHECK(prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN) == 1);
	CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0) == 1);
	CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_SYS_NICE, 0, 0) == 0);
	CHECK(prctl(PR_GET_SECUREBITS) == SECUREBITS, "securebits %x", prctl(PR_GET_SECUREBITS));
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	return well();
}
