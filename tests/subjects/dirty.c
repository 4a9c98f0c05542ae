// So many MiB of memory, of which it writes to every hundredth page when it is told to: `dirty DIRECTORY MIB`.
#include "subject.h"

static uint64_t *memory;
static size_t pages;

static uint64_t *page(size_t n)
{
	return memory + n * (PAGE / sizeof *memory);
}

static uint64_t content(size_t n, uint64_t round)
{
	uint64_t last = 0; // the last round that wrote to the page
	for (uint64_t r = 1; r <= round; r++)
		if (n % 100 == r % 100)
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
			for (size_t n = round % 100; n < pages; n += 100)
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
