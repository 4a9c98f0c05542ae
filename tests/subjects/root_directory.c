// A root directory other than /.
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	write_file("inside", "");
	MUST(chroot(subject_dir));
	MUST(chdir("/"));
	subject_dir = "";
	ready_and_wait();
	CHECK(access("/inside", F_OK) == 0);
	CHECK(access("/etc", F_OK) != 0);
	char cwd[4096];
	MUST((long)getcwd(cwd, sizeof cwd));
	CHECK(!strcmp(cwd, "/"), "cwd %s", cwd);
	return well();
}
