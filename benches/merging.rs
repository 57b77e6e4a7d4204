//! How long merges of eight adapters of rank 16 take, in which space, at which width, and how much
//! memory a whole LLaMA-8B-shaped set holds: `cargo bench -p merging`.

// As the command has it, so that neither measures the kernel clearing pages.
#[path = "../crates/eigenmix/src/allocator.rs"]
mod allocator;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use eigenmix_adapter::{Adapter, LoadedAdapter, LoraModule, PeftConfig, Source, TargetModules};
use eigenmix_merging::{MergeOptions, Method, Scope, Space, merge};
use eigenmix_tensors::Matrix;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

const ADAPTERS: u64 = 8;
const RANK: usize = 16;

fn main() {
    allocator::keep_freed_memory();
    let ties = Method::Ties { density: 0.2 };
    let layer = |space| MergeOptions {
        scope: Scope::Layer,
        ..MergeOptions::new(space, ties)
    };
    println!("TIES, best of 9:");
    let mut narrowest = None;
    for d in [1024, 2048, 4096, 8192] {
        let square = adapters(&[("q".to_owned(), [d, d])]);
        let narrow = adapters(&[("k".to_owned(), [1024, d])]);
        let core = best_of(9, &square, &layer(Space::Core));
        let first = *narrowest.get_or_insert(core);
        println!(
            "d {d:>5}: core {d} × {d} {core:.1?} ({:.1} times that of 1024), knots 1024 × {d} {:.1?}, over the model {:.1?}",
            core.as_secs_f64() / first.as_secs_f64(),
            best_of(9, &narrow, &layer(Space::Knots)),
            best_of(9, &narrow, &MergeOptions::new(Space::Knots, ties)),
        );
    }
    whole_model(ties);
}

/// 32 layers with the attention projections of LLaMA-3-8B.
fn whole_model(method: Method) {
    let shapes: Vec<_> = (0..32)
        .flat_map(|layer| {
            [("q", 4096), ("k", 1024), ("v", 1024), ("o", 4096)].map(|(name, d_out)| {
                (
                    format!("model.layers.{layer}.self_attn.{name}_proj"),
                    [d_out, 4096],
                )
            })
        })
        .collect();
    let adapters = adapters(&shapes);
    println!(
        "128 modules of LLaMA-8B, adapters in memory: {:.0?} MB",
        peak_memory()
    );
    for space in [Space::Core, Space::Knots] {
        let duration = best_of(1, &adapters, &MergeOptions::new(space, method));
        println!(
            "  {space:?}: {duration:.1?}, at most {:.0?} MB so far",
            peak_memory()
        );
    }
}

/// Random adapters with modules of these shapes `[d_out, d_in]`.
fn adapters(shapes: &[(String, [usize; 2])]) -> Vec<LoadedAdapter> {
    (0..ADAPTERS)
        .map(|seed| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut gaussian =
                |rows, cols| Matrix::from_fn(rows, cols, |_, _| StandardNormal.sample(&mut random));
            let modules: BTreeMap<String, LoraModule> = shapes
                .iter()
                .map(|(path, [d_out, d_in])| {
                    let (b, a) = (gaussian(*d_out, RANK), gaussian(RANK, *d_in));
                    (path.clone(), LoraModule::new(b, a, 0.5))
                })
                .collect();
            let targets = TargetModules::Names(modules.keys().cloned().collect());
            let config = PeftConfig::lora("org/base", RANK, targets, &[], None, &BTreeMap::new())
                .expect("a configuration of plain names");
            LoadedAdapter {
                source: Source {
                    location: seed.to_string(),
                    sha256: String::new(),
                },
                adapter: Adapter::new(config, modules),
            }
        })
        .collect()
}

fn best_of(repetitions: usize, adapters: &[LoadedAdapter], options: &MergeOptions) -> Duration {
    (0..repetitions)
        .map(|_| {
            let start = Instant::now();
            merge(adapters, options, &|_, _| {}).expect("a merge");
            start.elapsed()
        })
        .min()
        .unwrap_or_default()
}

/// VmHWM, the most memory this process has held so far, in MB; Linux only.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}
