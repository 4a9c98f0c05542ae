// So many MiB of memory, of which it writes to every hundredth page when it is told to, or to most: `dirty DIRECTORY MIB [most]`.
#include "subject.h"

static uint64_t *memory;
static size_t pages;
static int most;

static uint64_t *page(size_t n)
{
	return memory + n * (PAGE / sizeof *memory);
}

static int is_written(size_t n, uint64_t round)
{
	return most ? n % 4 != round % 4 : n % 100 == round % 100;
}

static uint64_t content(size_t n, uint64_t round)
{
	uint64_t last = 0; // the last round that wrote to the page
	for (uint64_t r = 1; r <= round; r++)
		if (is_written(n, r))
			last = r;
	return n << 8 | (last + 1);
}

static void write_page(size_t n, uint64_t round)
{
	for (size_t i = 0; i < PAGE / sizeof *memory; i++)
		page(n)[i] = content(n, round) * (i + 1);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	pages = strtoul(argv[2], NULL, 10) << 20 >> 12;
	most = argc > 3;
	memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	for (size_t n = 0; n < pages; n++)
		write_page(n, 0);
	write_file("ready", "");
	uint64_t round = 0;
	while (!told("go")) {
		char name[32];
		snprintf(name, sizeof name, "dirty-%lu", round + 1);
		if (told(name)) {
			round++;
			for (size_t n = 0; n < pages; n++)
				if (is_written(n, round))
					write_page(n, round);
			snprintf(name, sizeof name, "dirtied-%lu", round);
			write_file(name, "");
		}
		tick();
	}
	for (size_t n = 0; n < pages; n++)
		for (size_t i = 0; i < PAGE / sizeof *memory; i += 64)
			CHECK(page(n)[i] == content(n, round) * (i + 1), "page %zu word %zu", n, i);
	char verdict[32];
	snprintf(verdict, sizeof verdict, "round %lu", round);
	write_file("verdict", verdict);
	return 0;
}
