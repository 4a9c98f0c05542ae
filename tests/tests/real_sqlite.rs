//! sqlite3 in the middle of a transaction.
use ckpt_tests::ckpt::Ran;
use ckpt_tests::process::Process;
use ckpt_tests::real::{Program, rounds, start, survive_rounds};
use ckpt_tests::wait::until;
use ckpt_tests::{isolated, process};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Rows of one statement.
const ROWS: u64 = 200;

struct Sqlite {
    data: PathBuf,
    /// What the files said when nobody wrote them.
    at_restore: u64,
}

impl Sqlite {
    /// Statements done, by the numbers that it printed, which must be all of them in order.
    fn printed(&self) -> u64 {
        let text = std::fs::read_to_string(self.data.join("log")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut last = 0;
        for line in whole.lines() {
            let number: u64 = line.parse().unwrap_or_else(|_| panic!("sqlite3 says {line:?}"));
            assert_eq!(number, last + 1, "a statement done twice, or not at all");
            last = number;
        }
        last
    }
}

impl Program for Sqlite {
    fn job(&self) -> &'static str {
        "sqlite"
    }

    fn work(&mut self) {
        let from = self.printed();
        until("sqlite3 goes on", || (self.printed() >= from + 2).then_some(()));
        assert!(self.data.join("db-journal").exists(), "not in the middle of a transaction");
    }

    fn state(&mut self) -> u64 {
        self.printed()
    }

    fn forget(&mut self) {
        self.at_restore = self.printed();
    }

    fn first_state(&mut self) -> u64 {
        // The number after it is the next one, or `printed` complains.
        until("sqlite3 goes on", || (self.printed() > self.at_restore).then_some(()));
        self.at_restore
    }

    fn data_files(&self) -> Option<&Path> {
        Some(&self.data)
    }
}

#[test]
fn real_sqlite_in_mid_transaction() {
    isolated(|sandbox| {
        let data = sandbox.dir().join("sqlite");
        std::fs::create_dir(&data).expect("directory");
        // Enough statements for all the rounds, on a table that is too large for the page cache: the journal and the
        // database are written while the transaction runs.
        let statements = 400 * u64::from(rounds());
        // Statement journals are not to be files: a moment between the creation of one in /var/tmp and its removal can be restored once only.
        let mut script = String::from(
            "PRAGMA temp_store = MEMORY; PRAGMA cache_size = 20; CREATE TABLE t (n INTEGER, text TEXT); CREATE INDEX i ON t (text);\nBEGIN;\n",
        );
        for n in 1..=statements {
            write!(
                script,
                "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {ROWS}) \
                 INSERT INTO t SELECT {n}, hex(x * {n} * 2654435761 % 1000003) FROM c;\n.print {n}\n"
            )
            .expect("a string takes all");
        }
        script += "COMMIT;\n";
        let file = sandbox.dir().join("script.sql");
        std::fs::write(&file, script).expect("script");
        // `start` gives /dev/null as standard input: the shell opens the script.
        let mut command = Command::new("sh");
        command.args(["-c", "exec sqlite3 -bail db < \"$0\""]).arg(&file);
        let process: Process = start(sandbox, &data, "sqlite", &mut command, true);
        let mut sqlite = Sqlite { data: data.clone(), at_restore: 0 };
        let restored = survive_rounds(sandbox, &mut sqlite, process);
        while !process::gone(restored.pid()) {
            let before = sqlite.printed();
            until("it goes on or ends", || {
                (process::gone(restored.pid()) || sqlite.printed() > before).then_some(())
            });
        }
        restored.wait_gone();
        assert_eq!(sqlite.printed(), statements);
        let query = "PRAGMA integrity_check; SELECT count(*), count(DISTINCT n), sum(n) FROM t;";
        let told =
            Ran::of(Command::new("sqlite3").arg(data.join("db")).arg(query).stdin(Stdio::null())).done();
        let sum = ROWS * statements * (statements + 1) / 2;
        assert_eq!(told, format!("ok\n{}|{statements}|{sum}", ROWS * statements));
    });
}
