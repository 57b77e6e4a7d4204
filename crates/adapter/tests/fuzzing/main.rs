//! Whatever is in the files of an adapter, reading them ends with an adapter or an error: no panic,
//! and no more memory than the files are worth.
//!
//! Valid adapters of every dialect are changed in their bytes and in their structure. A run of the
//! tests tries some hundred cases; EIGENMIX_FUZZ_SECONDS=600 goes on for that long, with other cases
//! each time.

#[path = "../../../../tests/support/fuzzing/cases.rs"]
mod cases;
mod config_mutation;
#[path = "../../../../tests/support/fuzzing/counting_allocator.rs"]
mod counting_allocator;
#[path = "../../../../tests/support/fuzzing/json_text.rs"]
mod json_text;
mod mutation;
mod specimen;
use std::cell::Cell;
use std::path::Path;

use config_mutation::{ConfigMutation, changed_config};
use counting_allocator::{CountingAllocator, peak_of};
use eigenmix_adapter::AdapterFile;
use eigenmix_tensors::{TensorOutput, write_tensor_file};
use mutation::{Mutation, changed_tensors};
use proptest::prelude::*;
use specimen::{SHARDS, Specimen, specimens};

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
fn check(specimen: &Specimen, constant: usize, opened: &Cell<u64>) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir().expect("a directory");
    let mut size = 0;
    let mut put = |name: &str, content: &[u8]| {
        size += content.len();
        std::fs::write(directory.path().join(name), content).expect("a file");
    };
    match &specimen.rest {
        None => put("adapters.safetensors", &specimen.tensors),
        Some(rest) => {
            put(SHARDS[0], &specimen.tensors);
            put(SHARDS[1], &rest.second);
            put("adapter_model.safetensors.index.json", &rest.index);
        }
    }
    if let Some(config) = &specimen.config {
        put("adapter_config.json", config);
    }
    let (is_opened, peak) = peak_of(|| read_all(directory.path()));
    opened.set(opened.get() + u64::from(is_opened));
    let limit = BYTES_A_BYTE * size + constant;
    prop_assert!(peak <= limit, "{peak} bytes for files of {size}");
    Ok(())
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
fn all_files_that_are_changed_are_of_adapters() {
    let opened = Cell::new(0);
    let specimens = specimens();
    for specimen in &specimens {
        check(specimen, CONSTANT, &opened).expect("it costs what it should");
    }
    assert_eq!(opened.get(), specimens.len() as u64);
}

#[test]
fn changed_tensor_files_are_read_or_refused() {
    let specimens = specimens();
    let opened = Cell::new(0);
    let strategy = (
        0..specimens.len(),
        prop::collection::vec(any::<Mutation>(), 0..5),
    );
    let cases = cases::run(
        "tensor files",
        USUAL_CASES,
        &strategy,
        |(index, mutations)| {
            let mut specimen = specimens[index].clone();
            specimen.tensors = changed_tensors(&specimen.tensors, &mutations);
            check(&specimen, CONSTANT, &opened)
        },
    );
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
    let cases = cases::run(
        "configurations",
        USUAL_CASES,
        &strategy,
        |(index, mutations)| {
            let mut specimen = specimens[index].clone();
            let config = specimen.config.as_deref().unwrap_or_default();
            specimen.config = Some(changed_config(config, &mutations));
            check(&specimen, CONSTANT_OF_EXPRESSIONS, &opened)
        },
    );
    let opened = opened.get();
    println!("{cases} changed configurations, {opened} of them still of adapters");
    assert!(opened * 20 > cases, "{opened} of {cases} were read");
}

#[test]
fn changed_indices_of_shards_are_read_or_refused() {
    let specimens: Vec<Specimen> = specimens()
        .into_iter()
        .filter(|specimen| specimen.rest.is_some())
        .collect();
    let opened = Cell::new(0);
    let strategy = (
        0..specimens.len(),
        prop::collection::vec(any::<ConfigMutation>(), 0..3),
    );
    let cases = cases::run("indices", 200, &strategy, |(index, mutations)| {
        let mut specimen = specimens[index].clone();
        if let Some(rest) = &mut specimen.rest {
            rest.index = changed_config(&rest.index, &mutations);
        }
        check(&specimen, CONSTANT, &opened)
    });
    let opened = opened.get();
    println!("{cases} changed indices, {opened} of them still of adapters");
    assert!(opened * 20 > cases, "{opened} of {cases} were read");
}
