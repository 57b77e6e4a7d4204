//! Whatever is in the files of a dataset and of a tokenizer, reading them ends with rows or an error: no
//! panic, no endless work, and no more memory than the files are worth. What is written back of a table
//! of predictions parses again with the columns that it had.
//!
//! Valid files of every format and form are changed in their bytes and in their structure. A run of the
//! tests tries some hundred cases; EIGENMIX_FUZZ_SECONDS=600 goes on for that long, with other cases
//! each time.

#[path = "../../../../tests/support/fuzzing/cases.rs"]
mod cases;
#[path = "../../../../tests/support/fuzzing/counting_allocator.rs"]
mod counting_allocator;
#[path = "../../../../tests/support/fuzzing/json_text.rs"]
mod json_text;
mod parquet_mutation;
mod parquet_specimen;
mod readers;
mod text_mutation;
mod text_specimen;
mod written_back;

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use counting_allocator::{CountingAllocator, peak_of};
use eigenmix_data::{DataConfig, InputContract};
use parquet_mutation::ParquetMutation;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use text_mutation::{TextMutation, any_json, changed};
use text_specimen::{
    CARD, CHAT_TEMPLATE, CONTRACT, SPECIMENS, TOKENIZER, TOKENIZER_CONFIG, TextSpecimen,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// How many bytes a byte of a text may cost: an element of a list of numbers takes two, and 32 as a
/// value of JSON, in a list that doubles as it grows, once in the row and once in what is made of it.
const BYTES_A_BYTE: usize = 256;

/// What may come on top: buffers of files and decoders, an automaton for the names of files.
const CONSTANT: usize = 8 << 20;

/// The same of parquet: a page, its values and the rows of it may each take 64 MiB, however small the
/// file is.
const CONSTANT_OF_PARQUET: usize = 4 * (64 << 20);

/// Longer than any case takes, on a busy machine too.
const LONGEST: Duration = Duration::from_secs(30);

/// Reads and checks what that cost.
fn within<T>(size: usize, constant: usize, read: impl FnOnce() -> T) -> Result<T, TestCaseError> {
    let start = Instant::now();
    let (result, peak) = peak_of(read);
    let limit = BYTES_A_BYTE * size + constant;
    prop_assert!(peak <= limit, "{peak} bytes for files of {size}");
    prop_assert!(start.elapsed() < LONGEST, "{:?}", start.elapsed());
    Ok(result)
}

/// How a text lies on the disk.
#[derive(Clone, Copy, Debug)]
enum Wrapping {
    Plain,
    Gzip,
    Zstandard,
}

impl Wrapping {
    fn ending(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gzip => ".gz",
            Self::Zstandard => ".zst",
        }
    }

    fn wrapped(self, content: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Plain => content,
            Self::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(&content).expect("memory");
                encoder.finish().expect("memory")
            }
            Self::Zstandard => zstd::encode_all(content.as_slice(), 1).expect("memory"),
        }
    }
}

#[test]
fn changed_tables_of_text_are_read_or_refused() {
    let rows_read = Cell::new(0);
    let wrappings = [
        Wrapping::Plain,
        Wrapping::Plain,
        Wrapping::Gzip,
        Wrapping::Zstandard,
    ];
    let strategy = (
        0..SPECIMENS.len(),
        vec(any::<TextMutation>(), 0..4),
        prop::sample::select(wrappings.to_vec()),
        // Mostly what is compressed is whole.
        prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<(Index, u8)>(), 1..3)],
    );
    let test = |(index, mutations, wrapping, damage): (
        usize,
        Vec<TextMutation>,
        Wrapping,
        Vec<(Index, u8)>,
    )| {
        let TextSpecimen {
            name,
            content,
            text_pair,
        } = &SPECIMENS[index];
        let text = changed(content.as_bytes(), &mutations);
        let size = text.len();
        let mut file = wrapping.wrapped(text);
        for (at, byte) in &damage {
            let at = at.index(file.len().max(1));
            if let Some(damaged) = file.get_mut(at) {
                *damaged = *byte;
            }
        }
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory
            .path()
            .join(format!("{name}{}", wrapping.ending()));
        fs::write(&path, &file).expect("a file");
        fs::write(directory.path().join("a.png"), parquet_specimen::image()).expect("a file");
        let config = DataConfig {
            text_pair: text_pair.map(str::to_owned),
            ..DataConfig::new("unused")
        };
        let read = within(size + file.len(), CONSTANT, || {
            readers::read_split_in_all_ways(directory.path(), &path, &config)
        })?;
        rows_read.set(rows_read.get() + u64::from(read > 0));
        within(size + file.len(), CONSTANT, || {
            written_back::check(&path, &config)
        })?
    };
    let cases = cases::run("tables of text", 400, &strategy, test);
    let read = rows_read.get();
    println!("{cases} changed tables of text, {read} of them still with rows");
    assert!(read * 5 > cases, "{read} of {cases} were read");
}

#[test]
fn changed_parquet_files_are_read_or_refused() {
    let specimens = parquet_specimen::specimens();
    let rows_read = Cell::new(0);
    let strategy = (0..specimens.len(), vec(any::<ParquetMutation>(), 0..3));
    let test = |(index, mutations): (usize, Vec<ParquetMutation>)| {
        let file = parquet_mutation::changed(&specimens[index], &mutations);
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("train.parquet");
        fs::write(&path, &file).expect("a file");
        fs::write(directory.path().join("a.bmp"), parquet_specimen::image()).expect("a file");
        let config = DataConfig::new("unused");
        let read = within(file.len(), CONSTANT_OF_PARQUET, || {
            readers::read_split_in_all_ways(directory.path(), &path, &config)
        })?;
        rows_read.set(rows_read.get() + u64::from(read > 0));
        within(file.len(), CONSTANT_OF_PARQUET, || {
            written_back::check(&path, &config)
        })?
    };
    let cases = cases::run("parquet files", 400, &strategy, test);
    let read = rows_read.get();
    println!("{cases} changed parquet files, {read} of them still with rows");
    assert!(read * 5 > cases, "{read} of {cases} were read");
}

#[test]
fn changed_cards_are_read_or_say_nothing() {
    let strategy = vec(any::<TextMutation>(), 0..5);
    let cases = cases::run("cards", 150, &strategy, |mutations: Vec<TextMutation>| {
        let card = changed(CARD.as_bytes(), &mutations);
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("README.md"), &card).expect("a file");
        let path = directory.path().join("train.csv");
        fs::write(&path, "text,label\na,0\nb,1\n").expect("a file");
        let config = DataConfig::new("unused");
        within(card.len(), CONSTANT, || {
            readers::read_split_in_all_ways(directory.path(), &path, &config)
        })?;
        Ok(())
    });
    println!("{cases} changed cards");
}

#[test]
fn changed_tokenizers_and_templates_are_used_or_refused() {
    let used = Cell::new(0);
    let files = [
        ("tokenizer.json", TOKENIZER),
        ("tokenizer_config.json", TOKENIZER_CONFIG),
        ("chat_template.jinja", CHAT_TEMPLATE),
        ("chat_template.json", TOKENIZER_CONFIG),
    ];
    let strategy = (0..files.len(), vec(any::<TextMutation>(), 0..4));
    let test = |(index, mutations): (usize, Vec<TextMutation>)| {
        let (name, original) = files[index];
        let file = changed(original.as_bytes(), &mutations);
        let directory = tempfile::tempdir().expect("a directory");
        let put = |name: &str, content: &[u8]| {
            fs::write(directory.path().join(name), content).expect("a file");
        };
        put("tokenizer.json", TOKENIZER.as_bytes());
        put("tokenizer_config.json", TOKENIZER_CONFIG.as_bytes());
        put(name, &file);
        // What a template does with a word is its own; the tokenizer keeps a few tables.
        let is_used = within(file.len(), CONSTANT, || readers::encode(directory.path()))?;
        used.set(used.get() + u64::from(is_used));
        Ok(())
    };
    let cases = cases::run("tokenizers and templates", 200, &strategy, test);
    let used = used.get();
    println!("{cases} changed tokenizers and templates, {used} of them still in use");
    assert!(used * 5 > cases, "{used} of {cases} were used");
}

#[test]
fn changed_vocabularies_of_gguf_files_are_used_or_refused() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf");
    let files = ["llama", "llama3", "qwen2", "gemma2"].map(|family| {
        let file = golden.join(format!("vocabulary-{family}.gguf"));
        fs::read(file).expect("a golden file")
    });
    let used = Cell::new(0);
    let strategy = (0..files.len(), vec((any::<Index>(), any::<u8>()), 0..4));
    let test = |(index, changes): (usize, Vec<(Index, u8)>)| {
        let mut file = files[index].clone();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("model.gguf");
        fs::write(&path, &file).expect("a file");
        let is_used = within(file.len(), CONSTANT, || readers::encode(&path))?;
        used.set(used.get() + u64::from(is_used));
        Ok(())
    };
    let cases = cases::run("vocabularies", 200, &strategy, test);
    let used = used.get();
    println!("{cases} changed vocabularies, {used} of them still in use");
    assert!(used * 5 > cases, "{used} of {cases} were used");
}

#[test]
fn changed_contracts_are_read_or_refused() {
    let strategy = (vec(any::<TextMutation>(), 0..3), any_json());
    let test = |(mutations, json): (Vec<TextMutation>, String)| {
        for text in [changed(CONTRACT.as_bytes(), &mutations), json.into_bytes()] {
            let Ok(value) = serde_json::from_slice(&text) else {
                continue;
            };
            let path = Path::new("eigenmix.json");
            let contract = within(text.len(), CONSTANT, || {
                let contract = InputContract::from_json(&value, path).ok()?;
                let mut config = DataConfig::new("data");
                contract.apply(&mut config, Path::new("adapter"));
                let _ = (
                    contract.settings(),
                    contract.in_effect(&config, Path::new("adapter")),
                );
                Some(contract)
            })?;
            if let Some(contract) = contract {
                let written = serde_json::to_value(&contract).expect("a contract is JSON");
                let again = InputContract::from_json(&written, path).expect("it was one");
                prop_assert_eq!(again, contract);
            }
        }
        Ok(())
    };
    let cases = cases::run("contracts", 400, &strategy, test);
    println!("{cases} changed contracts");
}

#[test]
fn a_decompression_bomb_costs_no_more_than_its_limit() {
    let large = vec![b' '; 128 << 20];
    let bombs = [
        ("train.jsonl.gz", Wrapping::Gzip.wrapped(large.clone())),
        ("train.csv.zst", Wrapping::Zstandard.wrapped(large.clone())),
        ("train.parquet", parquet_specimen::bomb(&large)),
    ];
    for (name, bomb) in bombs {
        assert!(bomb.len() < 1 << 20, "{name}: {} bytes", bomb.len());
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(name);
        fs::write(&path, &bomb).expect("a file");
        let config = DataConfig::new("unused");
        let (read, peak) = peak_of(|| {
            eigenmix_data::read_file(&path, &config, eigenmix_data::LabelPolicy::Optional)
        });
        let error = read.expect_err("it is too large");
        assert!(error.to_string().contains(name), "{error}");
        println!("{name}: {} bytes, {peak} in memory", bomb.len());
        // A list that doubles as it grows has the old half beside it for a moment.
        assert!(peak <= 4 * (64 << 20), "{name}: {peak}");
    }
}
