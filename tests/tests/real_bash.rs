//! bash: background jobs, and a pipeline in the middle of a large sort.
use ckpt_tests::ckpt::Ran;
use ckpt_tests::isolated;
use ckpt_tests::real::{rounds, start};
use ckpt_tests::real_end::stop_on_the_way;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// Lines of the file to sort.
const LINES: u64 = 3_000_000;

/// The lines, counted: by a pipeline in the foreground, while two jobs in the background do their own part and a third sleeps.
const SCRIPT: &str = r#"
set -o pipefail
export LC_ALL=C TMPDIR=$PWD/tmp
sort -S 2M lines | uniq -c | sort -S 1M -rn >counted || echo "sort: $?" >>failed &
counting=$!
tr 0-9 a-j <lines | grep -c a >with_zero &
{ sum=0; while read -r line; do sum=$((sum + line)); done < <(head -n 100000 lines); echo $sum >sum; exit 7; } &
summing=$!
sleep 1000 &
sleeping=$!
wait $summing; echo "summing: $?" >statuses
wait $counting; echo "counting: $?" >>statuses
kill $sleeping; wait $sleeping; echo "sleeping: $?" >>statuses
wait
echo "jobs: $(jobs | wc -l)" >>statuses
echo end >end
"#;

fn lines(dir: &Path) -> (u64, u64) {
    let (mut text, mut with_zero, mut sum) = (String::new(), 0, 0);
    let mut number: u64 = 1;
    for i in 0..LINES {
        number = number * 48_271 % 2_147_483_647;
        let line = number % 400_000;
        writeln!(text, "{line}").expect("a string takes all");
        with_zero += u64::from(line.to_string().contains('0'));
        sum += if i < 100_000 { line } else { 0 };
    }
    std::fs::write(dir.join("lines"), text).expect("lines");
    (with_zero, sum)
}

#[test]
fn real_bash_in_the_middle_of_a_large_sort() {
    isolated(|sandbox| {
        let dir = sandbox.dir().join("bash");
        std::fs::create_dir_all(dir.join("tmp")).expect("directory");
        let (with_zero, sum) = lines(&dir);
        let mut command = Command::new("bash");
        let process = start(sandbox, &dir, "bash", command.args(["-c", SCRIPT]), false);
        sandbox.attach(process.pid(), "bash");
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        // The sorts' temporary files come and go.
        let mut newest = || {
            let files = std::fs::read_dir(dir.join("tmp")).expect("directory").flatten();
            files
                .filter_map(|file| Some(std::os::unix::fs::MetadataExt::ino(&file.metadata().ok()?)))
                .max()
                .unwrap_or(0)
        };
        let stops =
            stop_on_the_way(sandbox, "bash", process, rounds(), &mut newest, &|| dir.join("end").exists());
        assert!(stops >= 3, "it was stopped {stops} times only");
        assert_eq!(read("failed"), "");
        assert_eq!(read("statuses"), "summing: 7\ncounting: 0\nsleeping: 143\njobs: 0\n");
        assert_eq!(read("with_zero"), format!("{with_zero}\n"));
        assert_eq!(read("sum"), format!("{sum}\n"));
        let undisturbed = "LC_ALL=C; export LC_ALL; sort lines | uniq -c | sort -rn | cmp - counted";
        Ran::of(Command::new("bash").args(["-c", undisturbed]).current_dir(&dir)).done();
        assert_eq!(std::fs::read_dir(dir.join("tmp")).expect("directory").count(), 0, "temporary files left");
    });
}
