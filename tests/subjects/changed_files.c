// Files that others change while the program is away: `changed_files DIRECTORY`. It maps code of DIRECTORY/library, and has DIRECTORY/data
// open for reading and DIRECTORY/log for appending, neither of which it looks into again.
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	while (!told("prepared"))
		tick();
	int library = (int)MUST(open(in_dir("library"), O_RDONLY | O_CLOEXEC));
	CHECK(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, library, 0) != MAP_FAILED);
	MUST(close(library));
	int data = (int)MUST(open(in_dir("data"), O_RDONLY | O_CLOEXEC));
	int log = (int)MUST(open(in_dir("appended"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666));
	MUST(write(log, "first\n", 6));
	ready_and_wait();
	CHECK(fcntl(data, F_GETFL) != -1 && fcntl(log, F_GETFL) != -1);
	return well();
}
