//! Random adapters in memory, with no two dimensions alike: d_in ≠ d_out, ranks and scalings mixed.

// Each test binary compiles this file, and none needs all of it.
#![allow(dead_code, unused_imports)]
mod projector;
use std::collections::BTreeMap;

use eigenmix_adapter::{Adapter, LoadedAdapter, LoraModule, PeftConfig, Source, TargetModules};
use eigenmix_eigenlorax::{ExtractOptions, Extraction, extract};
use eigenmix_tensors::Matrix;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

pub use projector::{largest_difference, projector, relative_difference};

pub const QUERY: &str = "layers.0.attention.query";
pub const DOWN: &str = "layers.0.mlp.down";

/// `[d_out, d_in]` of a module.
pub fn shape_of(path: &str) -> [usize; 2] {
    if path == DOWN { [29, 41] } else { [37, 23] }
}

pub fn gaussian(rows: usize, cols: usize, random: &mut ChaCha8Rng) -> Matrix {
    Matrix::from_fn(rows, cols, |_, _| StandardNormal.sample(random))
}

/// A module of the given shape, its scaling not 1 (alpha ≠ rank).
pub fn module(path: &str, rank: usize, random: &mut ChaCha8Rng) -> LoraModule {
    let [d_out, d_in] = shape_of(path);
    let (b, a) = (gaussian(d_out, rank, random), gaussian(rank, d_in, random));
    LoraModule::new(b, a, 1.5 + 1.0 / rank as f32)
}

/// An adapter with these modules.
pub fn adapter(name: &str, modules: BTreeMap<String, LoraModule>) -> LoadedAdapter {
    let targets = TargetModules::Names(modules.keys().cloned().collect());
    let config = PeftConfig::lora("org/base", 4, targets, &[], None, &BTreeMap::new())
        .expect("a configuration of plain names");
    LoadedAdapter {
        source: Source {
            location: name.to_owned(),
            sha256: format!("sha256 of {name}"),
        },
        adapter: Adapter::new(config, modules),
    }
}

/// An adapter with both modules, of the given rank in the first and one more in the second.
pub fn random_adapter(name: &str, rank: usize, seed: u64) -> LoadedAdapter {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let modules = [(QUERY, rank), (DOWN, rank + 1)]
        .map(|(path, rank)| (path.to_owned(), module(path, rank, &mut random)));
    adapter(name, BTreeMap::from(modules))
}

/// Three adapters of ranks 2, 4 and 3: nine columns of QUERY, twelve of DOWN.
pub fn three_adapters() -> Vec<LoadedAdapter> {
    vec![
        random_adapter("a", 2, 1),
        random_adapter("b", 4, 2),
        random_adapter("c", 3, 3),
    ]
}

pub fn extracted(adapters: &[LoadedAdapter], options: &ExtractOptions) -> Extraction {
    extract(adapters, options, &|_, _| {}).expect("an extraction")
}
