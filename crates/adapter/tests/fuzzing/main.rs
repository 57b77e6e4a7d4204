//! Whatever is in the files of an adapter, reading them ends with an adapter or an error: no panic,
//! and no more memory than the files are worth.
//!
//! Valid adapters of every dialect are changed in their bytes and in their structure. A run of the
//! tests tries some hundred cases; EIGENMIX_FUZZ_SECONDS=600 goes on for that long, with other cases
//! each time.

mod config_mutation;
mod counting_allocator;
mod mutation;
mod specimen;
use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use config_mutation::{ConfigMutation, changed_config};
use counting_allocator::{CountingAllocator, peak_of};
use eigenmix_adapter::AdapterFile;
use eigenmix_tensors::{TensorOutput, write_tensor_file};
use mutation::{Mutation, changed_tensors};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use specimen::{Specimen, specimens};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// How many bytes a byte of the files may cost. A tensor of a header takes some 60 bytes there and
/// some 600 in the maps that parsing makes of it; a factor in half precision doubles, is transposed or
/// folded (49 times at most, where a convolution has a third factor).
const BYTES_A_BYTE: usize = 64;

/// What may come on top: the usual regular expressions of a configuration, compiled.
const CONSTANT: usize = 1 << 20;

/// The same where expressions are changed: each may take 1 MiB for its program and as much for its
/// automaton, and a changed configuration has a dozen.
const CONSTANT_OF_EXPRESSIONS: usize = 32 << 20;

const USUAL_CASES: u32 = 400;

/// Opens and reads everything, module by module as the commands do, and says whether it was adapted.
fn read_all(directory: &Path) -> bool {
    let Ok(file) = AdapterFile::open(directory) else {
        return false;
    };
    let _ = (file.require_clean(), file.heads(), file.biases());
    for path in file.module_paths() {
        let Ok(module) = file.module(path) else {
            continue;
        };
        assert_eq!(module.a.rows(), module.b.cols(), "{path}");
        assert_eq!(
            file.shape(path).expect("a module of the file"),
            (module.rank(), module.d_in(), module.d_out()),
            "{path}"
        );
    }
    true
}

/// Writes the files, reads them and checks what that cost.
fn check(
    tensors: &[u8],
    config: Option<&[u8]>,
    constant: usize,
    opened: &Cell<u64>,
) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("adapters.safetensors"), tensors).expect("a file");
    if let Some(config) = config {
        std::fs::write(directory.path().join("adapter_config.json"), config).expect("a file");
    }
    let (is_opened, peak) = peak_of(|| read_all(directory.path()));
    opened.set(opened.get() + u64::from(is_opened));
    let size = tensors.len() + config.map_or(0, <[u8]>::len);
    let limit = BYTES_A_BYTE * size + constant;
    prop_assert!(peak <= limit, "{peak} bytes for files of {size}");
    Ok(())
}

/// Runs `test` on cases of `strategy`: so many, or for as long as the environment says.
fn run<S: Strategy>(
    name: &str,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> u64 {
    let seconds = std::env::var("EIGENMIX_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("EIGENMIX_FUZZ_SECONDS is a number"));
    let config = Config {
        cases: USUAL_CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let (start, mut rounds) = (Instant::now(), 0);
    loop {
        let mut runner = match seconds {
            // The same cases every time.
            None => {
                let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
                TestRunner::new_with_rng(config.clone(), random)
            }
            Some(_) => TestRunner::new(config.clone()),
        };
        if let Err(error) = runner.run(strategy, &test) {
            match error {
                TestError::Fail(reason, case) => panic!("{name}: {reason}: {case:#?}"),
                TestError::Abort(reason) => panic!("{name}: {reason}"),
            }
        }
        rounds += 1;
        let is_over = |seconds| start.elapsed() >= Duration::from_secs(seconds);
        if seconds.is_none_or(is_over) {
            return rounds * u64::from(USUAL_CASES);
        }
    }
}

#[test]
fn thousands_of_modules_cost_no_more_than_their_header() {
    // Every other one has another rank and needs a pattern of its own, which another module ends in.
    let names: Vec<(String, usize)> = (0..2000)
        .flat_map(|index| {
            let rank = 1 + index % 2;
            ["", ".unet"].map(|inner| (format!("unet{inner}.layer_{index}"), rank))
        })
        .collect();
    let zeros = [0.0; 2];
    let tensors = names.iter().flat_map(|(name, rank)| {
        let values = &zeros[..*rank];
        [
            TensorOutput::f32(format!("{name}.lora_A.weight"), [*rank, 1], values),
            TensorOutput::f32(format!("{name}.lora_B.weight"), [1, *rank], values),
        ]
    });
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("many.safetensors");
    write_tensor_file(&path, tensors.collect()).expect("a file");
    let size = std::fs::metadata(&path).expect("the file").len() as usize;
    let (is_opened, peak) = peak_of(|| read_all(directory.path()));
    assert!(is_opened);
    println!("{peak} bytes for a file of {size}");
    assert!(
        peak <= BYTES_A_BYTE * size,
        "{peak} bytes for a file of {size}"
    );
}

#[test]
fn changed_tensor_files_are_read_or_refused() {
    let specimens = specimens();
    let opened = Cell::new(0);
    let strategy = (
        0..specimens.len(),
        prop::collection::vec(any::<Mutation>(), 0..5),
    );
    let cases = run("tensor files", &strategy, |(index, mutations)| {
        let Specimen { tensors, config } = &specimens[index];
        let changed = changed_tensors(tensors, &mutations);
        check(&changed, config.as_deref(), CONSTANT, &opened)
    });
    let opened = opened.get();
    println!("{cases} changed tensor files, {opened} of them still adapters");
    // Else only the first check of all would have been tried.
    assert!(opened * 20 > cases, "{opened} of {cases} were read");
}

#[test]
fn changed_configurations_are_read_or_refused() {
    let specimens: Vec<Specimen> = specimens()
        .into_iter()
        .filter(|specimen| specimen.config.is_some())
        .collect();
    let opened = Cell::new(0);
    let strategy = (
        0..specimens.len(),
        prop::collection::vec(any::<ConfigMutation>(), 0..4),
    );
    let cases = run("configurations", &strategy, |(index, mutations)| {
        let Specimen { tensors, config } = &specimens[index];
        let changed = changed_config(config.as_deref().unwrap_or_default(), &mutations);
        check(tensors, Some(&changed), CONSTANT_OF_EXPRESSIONS, &opened)
    });
    let opened = opened.get();
    println!("{cases} changed configurations, {opened} of them still of adapters");
    assert!(opened * 20 > cases, "{opened} of {cases} were read");
}
