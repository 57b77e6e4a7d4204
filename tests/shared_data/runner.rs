//! Runs tests that may have to be skipped, and counts those: a test of Rust's own harness that
//! returns early counts as passed.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A test of something in `../shared`.
pub struct Test {
    pub name: &'static str,
    /// What has to be there, below `../shared`: the test is given its path.
    pub needs: &'static str,
    pub run: fn(&Path),
}

/// What `cargo test -- …` may say, as far as it matters here.
#[derive(Default)]
struct Arguments {
    filters: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    list: bool,
    ignored: bool,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Self {
        let mut arguments = Self::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--exact" => arguments.exact = true,
                "--list" => arguments.list = true,
                "--ignored" => arguments.ignored = true,
                "--skip" => arguments.skip.extend(words.next()),
                "--test-threads" | "--format" | "--color" | "--logfile" | "--shuffle-seed" => {
                    words.next();
                }
                flag if flag.starts_with('-') => {}
                _ => arguments.filters.push(word),
            }
        }
        arguments
    }

    fn select(&self, name: &str) -> bool {
        let fits = |pattern: &String| match self.exact {
            true => name == pattern,
            false => name.contains(pattern.as_str()),
        };
        let is_wanted = self.filters.is_empty() || self.filters.iter().any(fits);
        // `--ignored` asks for those that are left out of a plain run, and here all are in it.
        is_wanted && !self.ignored && !self.skip.iter().any(fits)
    }
}

/// `../shared` from the root of the repository.
fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared")
}

/// Runs the tests that the command line asks for, one after the other.
pub fn run(tests: &[Test]) -> ExitCode {
    let arguments = Arguments::read(std::env::args().skip(1));
    let selected: Vec<&Test> = tests
        .iter()
        .filter(|test| arguments.select(test.name))
        .collect();
    if arguments.list {
        for test in selected {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", selected.len());
    let (mut passed, mut failed, mut absent) = (0, 0, Vec::new());
    for test in &selected {
        let path = shared().join(test.needs);
        if !path.exists() {
            println!("test {} ... skipped", test.name);
            absent.push(test.needs);
            continue;
        }
        if catch_unwind(|| (test.run)(&path)).is_ok() {
            println!("test {} ... ok", test.name);
            passed += 1;
        } else {
            println!("test {} ... FAILED", test.name);
            failed += 1;
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    let reason = match absent.as_slice() {
        [] => String::new(),
        _ if !shared().exists() => ": ../shared is absent".to_owned(),
        [first, ..] => format!(": ../shared/{first} is absent, for one"),
    };
    println!(
        "\ntest result: {result}. {passed} passed; {failed} failed; {} skipped{reason}; {} filtered out\n",
        absent.len(),
        tests.len() - selected.len(),
    );
    // As Rust's own harness ends.
    ExitCode::from(if failed == 0 { 0 } else { 101 })
}
