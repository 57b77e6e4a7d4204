//! Whatever is in a GGUF file, opening it ends with a file or an error: no panic, and no more memory
//! than its bytes are worth.
//!
//! A run of the tests tries some hundred cases; EIGENMIX_FUZZ_SECONDS=600 goes on for that long, with
//! other cases each time.

#[path = "../../../tests/support/fuzzing/cases.rs"]
mod cases;
#[path = "../../../tests/support/fuzzing/counting_allocator.rs"]
mod counting_allocator;

use std::cell::Cell;
use std::path::Path;

use counting_allocator::{CountingAllocator, peak_of};
use eigenmix_gguf::GgufFile;
use proptest::prelude::*;
use proptest::sample::Index;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// How many bytes a byte of the file may cost: an empty text takes 8 in the file and 24 in memory, an
/// empty array 12 and 32, a tensor 24 and some 200; lists that grow are there twice meanwhile.
const BYTES_A_BYTE: usize = 32;

/// Messages and paths.
const CONSTANT: usize = 1 << 14;

/// Where the tensors of both files begin, or a little after.
const HEADER: usize = 12_000;

fn golden(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf");
    std::fs::read(directory.join(name)).expect("a golden file")
}

/// Opens the file and touches everything; says whether it was opened.
fn read_all(path: &Path) -> bool {
    let Ok(file) = GgufFile::open(path) else {
        return false;
    };
    for (key, value) in file.metadata() {
        let _ = (value.describe(), file.unsigned(key), file.number(key));
    }
    for name in file.names() {
        let shape = file.shape(name).expect("a tensor of the file");
        if let Ok(tensor) = file.tensor(name) {
            let values: usize = shape.iter().product();
            let blocks = values / tensor.encoding.block_len();
            assert_eq!(tensor.data.len(), blocks * tensor.encoding.block_bytes());
            let _ = tensor.data.iter().fold(0u8, |sum, byte| sum ^ byte);
        }
    }
    true
}

fn check(content: &[u8], opened: &Cell<u64>) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.gguf");
    std::fs::write(&path, content).expect("a file");
    let (is_opened, peak) = peak_of(|| read_all(&path));
    opened.set(opened.get() + u64::from(is_opened));
    let limit = BYTES_A_BYTE * content.len() + CONSTANT;
    prop_assert!(
        peak <= limit,
        "{peak} bytes for a file of {}",
        content.len()
    );
    Ok(())
}

/// A change of a file.
#[derive(Clone, Debug)]
enum Mutation {
    Byte(Index, u8),
    Bit(Index, u8),
    /// Eight bytes of the header, by a number.
    Number(Index, u64),
    Truncate(Index),
    Remove(Index, u8),
    Insert(Index, Vec<u8>),
    Append(u8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let number = prop_oneof![
        0..4096u64,
        any::<u64>(),
        (0..64u32).prop_map(|bit| 1 << bit),
        Just(u64::MAX)
    ];
    prop_oneof![
        3 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Byte(at, byte)),
        3 => (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Mutation::Bit(at, bit)),
        3 => (any::<Index>(), number).prop_map(|(at, number)| Mutation::Number(at, number)),
        1 => any::<Index>().prop_map(Mutation::Truncate),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, count)| Mutation::Remove(at, count)),
        1 => (any::<Index>(), any::<Vec<u8>>()).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => any::<u8>().prop_map(Mutation::Append),
    ]
}

fn change(content: &mut Vec<u8>, mutation: Mutation) {
    if content.is_empty() {
        return;
    }
    let header = content.len().min(HEADER);
    match mutation {
        Mutation::Byte(at, byte) => content[at.index(header)] = byte,
        Mutation::Bit(at, bit) => content[at.index(header)] ^= 1 << bit,
        Mutation::Number(at, number) => {
            let start = at.index(header);
            let bytes = number.to_le_bytes();
            for (place, byte) in content[start..].iter_mut().zip(bytes) {
                *place = byte;
            }
        }
        Mutation::Truncate(at) => content.truncate(at.index(content.len())),
        Mutation::Remove(at, count) => {
            let start = at.index(header);
            let end = (start + usize::from(count)).min(content.len());
            content.drain(start..end);
        }
        Mutation::Insert(at, bytes) => {
            let start = at.index(header);
            content.splice(start..start, bytes);
        }
        Mutation::Append(count) => content.resize(content.len() + usize::from(count), 0),
    }
}

#[test]
fn golden_files_cost_what_they_should() {
    let opened = Cell::new(0);
    for name in ["llama-Q4_1.gguf", "../gguf_adapters/llama-lora-F32.gguf"] {
        check(&golden(name), &opened).expect("it costs what it should");
    }
    assert_eq!(opened.get(), 2);
}

#[test]
fn changed_files_are_opened_or_refused() {
    let specimens = ["llama-Q4_1.gguf", "../gguf_adapters/llama-lora-F32.gguf"].map(golden);
    let opened = Cell::new(0);
    let strategy = (0..specimens.len(), prop::collection::vec(mutation(), 1..4));
    let cases = cases::run("files", 1500, &strategy, |(index, mutations)| {
        let mut content = specimens[index].clone();
        for mutation in mutations {
            change(&mut content, mutation);
        }
        check(&content, &opened)
    });
    let opened = opened.get();
    println!("{cases} changed files, {opened} of them still opened");
    // Else only the first check of all would have been tried.
    assert!(opened * 20 > cases, "{opened} of {cases} were opened");
}

#[test]
fn a_file_cut_anywhere_in_its_header_is_refused() {
    let content = golden("../gguf_adapters/llama-lora-F32.gguf");
    let opened = Cell::new(0);
    for length in 0..2500 {
        check(&content[..length], &opened).expect("it costs what it should");
    }
    assert_eq!(opened.get(), 0);
}

#[test]
fn arbitrary_bytes_behind_the_magic_are_refused_or_opened() {
    let strategy = (2..4u32, 0..3u64, 0..3u64, any::<Vec<u8>>());
    let opened = Cell::new(0);
    cases::run(
        "bytes",
        500,
        &strategy,
        |(version, tensors, values, rest)| {
            let mut content = b"GGUF".to_vec();
            content.extend(version.to_le_bytes());
            content.extend(tensors.to_le_bytes());
            content.extend(values.to_le_bytes());
            content.extend(rest);
            check(&content, &opened)
        },
    );
}
