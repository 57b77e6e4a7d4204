//! Whatever is in a training file, reading it ends with a configuration or an error.
//!
//! The project's own files are changed in their letters, their lines and their values. A run of the
//! tests tries some hundred cases; EIGENMIX_FUZZ_SECONDS=600 goes on for that long, with other cases
//! each time.

#[path = "../../../tests/support/fuzzing/cases.rs"]
mod cases;

use std::cell::Cell;
use std::fs;
use std::path::Path;

use eigenmix_trainer::TrainConfig;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const USUAL_CASES: u32 = 500;

/// A change of a training file.
#[derive(Clone, Debug)]
enum Mutation {
    Byte(Index, u8),
    Truncate(Index),
    RemoveLine(Index),
    RepeatLine(Index, Index),
    /// What follows the `=` of a line.
    Value(Index, String),
    Insert(Index, String),
}

/// Values of any form, some of which are not TOML.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        prop::sample::select(vec![
            "0",
            "-0.0",
            "inf",
            "nan",
            "1e400",
            "true",
            "\"\"",
            "\"lora\"",
            "\"merge\"",
            "\"project:\"",
            "1979-05-27",
            "0x7fffffffffffffff",
            "'''",
            "99999999999999999999",
        ])
        .prop_map(str::to_owned),
        "[a-z:/]{0,12}".prop_map(|text| format!("\"{text}\"")),
        any::<String>(),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            vec(("[a-z_]{1,8}", inner), 0..4).prop_map(|fields| {
                let fields = fields.iter().map(|(key, value)| format!("{key} = {value}"));
                format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
            }),
            any::<u8>().prop_map(|depth| "[".repeat(usize::from(depth))),
        ]
    })
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
        index().prop_map(Mutation::Truncate),
        index().prop_map(Mutation::RemoveLine),
        (index(), index()).prop_map(|(from, to)| Mutation::RepeatLine(from, to)),
        (index(), value()).prop_map(|(line, value)| Mutation::Value(line, value)),
        (index(), "[a-z_]{1,8}( = [0-9]{1,3})?|\\[[a-z.]{1,9}\\]")
            .prop_map(|(at, line)| Mutation::Insert(at, line)),
    ]
}

fn changed(original: &str, mutations: &[Mutation]) -> String {
    let mut text = original.to_owned();
    for mutation in mutations {
        let mut bytes = text.clone().into_bytes();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.is_empty() {
            break;
        }
        match mutation {
            Mutation::Byte(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Mutation::Truncate(at) => bytes.truncate(at.index(bytes.len())),
            Mutation::RemoveLine(at) => {
                lines.remove(at.index(lines.len()));
            }
            Mutation::RepeatLine(from, to) => {
                let line = from.get(&lines).clone();
                lines.insert(to.index(lines.len()), line);
            }
            Mutation::Value(at, value) => {
                let line = at.get_mut(&mut lines);
                let key = line.split('=').next().unwrap_or_default().trim_end();
                *line = format!("{key} = {value}");
            }
            Mutation::Insert(at, line) => lines.insert(at.index(lines.len()), line.clone()),
        }
        text = match mutation {
            Mutation::Byte(..) | Mutation::Truncate(_) => {
                String::from_utf8_lossy(&bytes).into_owned()
            }
            _ => lines.join("\n"),
        };
    }
    text
}

/// The training files that the project brings.
fn files() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut pending = vec![root];
    let mut files = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|found| found == "toml") {
                files.push(fs::read_to_string(path).expect("a file"));
            }
        }
    }
    files.retain(|text| TrainConfig::from_toml(text).is_ok());
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn changed_training_files_are_read_or_refused() {
    let files = files();
    let strategy = (0..files.len(), vec(mutation(), 0..4));
    let accepted = Cell::new(0u64);
    let cases = cases::run(
        "training files",
        USUAL_CASES,
        &strategy,
        |(index, mutations)| {
            let text = changed(&files[index], &mutations);
            match TrainConfig::from_toml(&text) {
                Ok(config) => {
                    accepted.set(accepted.get() + 1);
                    // What is accepted once is accepted as often as it is asked.
                    prop_assert!(config.validate().is_ok());
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
            Ok(())
        },
    );
    let accepted = accepted.get();
    println!("{cases} changed training files, {accepted} of them still accepted");
    // Else only the syntax would have been tried.
    assert!(accepted * 50 > cases, "{accepted} of {cases} were accepted");
}
