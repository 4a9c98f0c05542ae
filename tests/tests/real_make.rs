//! make with four jobs, in the middle of a build.
use ckpt_tests::ckpt::Ran;
use ckpt_tests::isolated;
use ckpt_tests::real::{rounds, start};
use ckpt_tests::real_end::stop_on_the_way;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// Source files.
const FILES: u64 = 30;

const MAKEFILE: &str = "\
CFLAGS = -O2 -g
objects := $(patsubst %.c,%.o,$(sort $(wildcard *.c)))
program: $(objects)
\t$(CC) -o $@ $^
\t@echo built >built
%.o: %.c common.h
\t$(CC) $(CFLAGS) -c -o $@ $<
";

/// Writes the project; `program` prints the sum of what the functions of all files return.
fn project(dir: &Path) {
    std::fs::create_dir_all(dir).expect("directory");
    let mut main = String::from("#include \"common.h\"\nint main(void) { unsigned long sum = 0;\n");
    let mut header = String::from("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n");
    for file in 0..FILES {
        let mut source = String::from("#include \"common.h\"\n");
        for function in 0..40 {
            writeln!(
                source,
                "static unsigned long f{function}(unsigned long x) {{ char text[64]; for (int i = 0; i < 50; i++) {{ \
                 switch ((x + i) % 5) {{ case 0: x = x * {} + i; break; case 1: x ^= x >> 7; break; \
                 case 2: x += {file}; break; default: snprintf(text, sizeof text, \"%lu\", x); x += strlen(text); }} }} return x; }}",
                2 * function + 3
            )
            .expect("a string takes all");
        }
        writeln!(source, "unsigned long file{file}(unsigned long x) {{").expect("a string takes all");
        for function in 0..40 {
            writeln!(source, "x = f{function}(x);").expect("a string takes all");
        }
        source += "return x; }\n";
        std::fs::write(dir.join(format!("file{file}.c")), source).expect("source");
        writeln!(header, "unsigned long file{file}(unsigned long x);").expect("a string takes all");
        writeln!(main, "sum += file{file}({file});").expect("a string takes all");
    }
    main += "printf(\"%lu\\n\", sum); return 0; }\n";
    std::fs::write(dir.join("main.c"), main).expect("source");
    std::fs::write(dir.join("common.h"), header).expect("header");
    std::fs::write(dir.join("Makefile"), MAKEFILE).expect("makefile");
}

#[test]
fn real_make_with_four_jobs() {
    isolated(|sandbox| {
        // The path is in the debugging information: both builds have it from their own directory's name, `.`.
        let build = |dir: &Path| {
            let mut command = Command::new("make");
            command.args(["-j4", "CFLAGS=-O2 -g -ffile-prefix-map=$(CURDIR)=."]).current_dir(dir);
            command.env("TMPDIR", dir);
            command
        };
        let (dir, undisturbed) = (sandbox.dir().join("make"), sandbox.dir().join("undisturbed"));
        project(&dir);
        let process = start(sandbox, &dir, "make", &mut build(&dir), false);
        sandbox.attach(process.pid(), "make");
        // Objects, and the compilers' temporary files.
        let mut files = || std::fs::read_dir(&dir).expect("directory").count() as u64;
        let stops =
            stop_on_the_way(sandbox, "make", process, rounds(), &mut files, &|| dir.join("built").exists());
        assert!(stops >= 3, "it was stopped {stops} times only");
        let log = std::fs::read_to_string(dir.join("log")).expect("log");
        assert!(!log.contains("rror") && !log.contains("arning"), "make says {log}");

        project(&undisturbed);
        Ran::of(&mut build(&undisturbed)).done();
        let compiled = |dir: &Path| std::fs::read(dir.join("program")).expect("program");
        assert!(compiled(&dir) == compiled(&undisturbed), "another binary");
        let says = |dir: &Path| Ran::of(&mut Command::new(dir.join("program"))).done();
        assert_eq!(says(&dir), says(&undisturbed));
    });
}
