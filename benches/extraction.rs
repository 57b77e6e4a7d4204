//! How long it takes to extract the subspace of eight RoBERTa-base-shaped adapters (rank 8, query and
//! value, 24 modules), from opened files to the saved subspace, against a plain SVD of every stack in
//! the same run: `cargo bench -p eigenlorax`.

// As the command has it, so that neither measures the kernel clearing pages.
#[path = "../crates/eigenmix/src/allocator.rs"]
mod allocator;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use eigenmix_adapter::{Adapter, AdapterFile, LoraModule, PeftConfig, SaveOptions, TargetModules};
use eigenmix_eigenlorax::decomposition::ThinSvd;
use eigenmix_eigenlorax::{Components, ExtractOptions, extract};
use eigenmix_tensors::Matrix;
use faer::Mat;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

const ADAPTERS: usize = 8;
const RANK: usize = 8;
const D_MODEL: usize = 768;
const LAYERS: usize = 12;

fn main() {
    allocator::keep_freed_memory();
    let place = tempfile::tempdir().expect("a temporary directory");
    let paths: Vec<PathBuf> = (0..ADAPTERS)
        .map(|index| place.path().join(index.to_string()))
        .collect();
    paths
        .iter()
        .enumerate()
        .for_each(|(seed, path)| save(seed as u64, path));
    let out = place.path().join("subspace");

    let extraction = best_of(9, || {
        let files: Vec<AdapterFile> = paths
            .iter()
            .map(|path| AdapterFile::open(path).expect("an adapter"))
            .collect();
        let options = ExtractOptions::new(Components::All);
        let extraction = extract(&files, &options, &|_, _| {}).expect("a subspace");
        extraction.subspace.save(&out, true).expect("a directory");
    });
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let stack = Mat::from_fn(D_MODEL, ADAPTERS * RANK, |_, _| {
        StandardNormal.sample(&mut random)
    });
    let plain = best_of(3, || {
        for _ in 0..2 * 2 * LAYERS {
            std::hint::black_box(ThinSvd::new(stack.as_ref()).expect("a decomposition"));
        }
    });
    println!(
        "files to saved subspace {extraction:.1?}; plain SVDs alone, one thread {plain:.1?}; ratio {:.2}",
        extraction.as_secs_f64() / plain.as_secs_f64()
    );
}

fn save(seed: u64, path: &std::path::Path) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut gaussian =
        |rows, cols| Matrix::from_fn(rows, cols, |_, _| StandardNormal.sample(&mut random));
    let modules: BTreeMap<String, LoraModule> = (0..LAYERS)
        .flat_map(|layer| {
            ["query", "value"].map(|name| format!("roberta.encoder.layer.{layer}.{name}"))
        })
        .map(|path| {
            (
                path,
                LoraModule::new(gaussian(D_MODEL, RANK), gaussian(RANK, D_MODEL), 1.0),
            )
        })
        .collect();
    let targets = TargetModules::Names(vec!["query".to_owned(), "value".to_owned()]);
    let config = PeftConfig::lora("roberta-base", RANK, targets, &[], None, &BTreeMap::new());
    Adapter::new(config.expect("plain names"), modules)
        .save(path, &SaveOptions::default())
        .expect("a directory");
}

fn best_of(repetitions: usize, mut work: impl FnMut()) -> Duration {
    (0..repetitions)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .min()
        .unwrap_or_default()
}
