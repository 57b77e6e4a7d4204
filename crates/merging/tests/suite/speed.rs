//! How long merges take and how much memory they hold: figures to read, so they run only when asked.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use eigenlorax::LoadedAdapter;
use merging::{MergeOptions, Method, Scope, Space};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::random_adapters::{adapter, merged, module};

const ADAPTERS: usize = 8;
const RANK: usize = 16;

/// Eight adapters of rank 16 with modules of these shapes.
fn adapters(shapes: &[(String, [usize; 2])]) -> Vec<LoadedAdapter> {
    (0..ADAPTERS)
        .map(|index| {
            let mut random = ChaCha8Rng::seed_from_u64(index as u64);
            let modules: BTreeMap<_, _> = shapes
                .iter()
                .map(|(path, shape)| (path.clone(), module(*shape, RANK, &mut random)))
                .collect();
            adapter(&format!("adapter {index}"), modules)
        })
        .collect()
}

/// The shortest of a few runs, and the processor time it took on all threads together.
struct Figure {
    wall: Duration,
    processor: Option<Duration>,
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.1?}", self.wall)?;
        match self.processor {
            Some(processor) => write!(formatter, " ({processor:.1?} of processors)"),
            None => Ok(()),
        }
    }
}

fn best_of(repetitions: usize, adapters: &[LoadedAdapter], options: &MergeOptions) -> Figure {
    let runs = (0..repetitions).map(|_| {
        let (start, busy) = (Instant::now(), processor_time());
        merged(adapters, options);
        Figure {
            wall: start.elapsed(),
            processor: busy.and_then(|busy| Some(processor_time()? - busy)),
        }
    });
    runs.min_by_key(|run| run.wall).expect("at least one run")
}

/// How long the threads of this process have run, where Linux tells.
fn processor_time() -> Option<Duration> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let account = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += account.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanoseconds))
}

/// VmHWM, the most memory this process has held so far, in MB.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

#[test]
#[ignore = "prints figures; run with --ignored --nocapture"]
fn one_module_with_ties() {
    let ties = Method::Ties { density: 0.2 };
    for d in [1024, 2048, 4096, 8192] {
        let square = adapters(&[("q".to_owned(), [d, d])]);
        let narrow = adapters(&[("k".to_owned(), [1024, d])]);
        let layer = |space| MergeOptions {
            scope: Scope::Layer,
            ..MergeOptions::new(space, ties)
        };
        println!(
            "d {d:>5}: core {d} × {d} {}; knots 1024 × {d} {}, over the model {}; knots {d} × {d} {}",
            best_of(9, &square, &layer(Space::Core)),
            best_of(9, &narrow, &layer(Space::Knots)),
            best_of(9, &narrow, &MergeOptions::new(Space::Knots, ties)),
            best_of(9, &square, &layer(Space::Knots)),
        );
    }
    let square = adapters(&[("q".to_owned(), [4096, 4096])]);
    for (space, method) in [
        (Space::Full, ties),
        (Space::Core, Method::Sum),
        (Space::Core, Method::Tsv),
    ] {
        let options = MergeOptions::new(space, method);
        println!(
            "{space:?} {}: {}",
            method.name(),
            best_of(2, &square, &options)
        );
    }
}

#[test]
#[ignore = "prints figures; run with --ignored --nocapture"]
fn a_llama_8b_shaped_set() {
    let shapes: Vec<_> = (0..32)
        .flat_map(|layer| {
            [("q", 4096), ("k", 1024), ("v", 1024), ("o", 4096)].map(|(name, d_out)| {
                let path = format!("model.layers.{layer}.self_attn.{name}_proj");
                (path, [d_out, 4096])
            })
        })
        .collect();
    let adapters = adapters(&shapes);
    println!("adapters in memory: {:.0?} MB", peak_memory());
    for space in [Space::Core, Space::Knots] {
        let options = MergeOptions::new(space, Method::Ties { density: 0.2 });
        println!(
            "{space:?} {:?}: {}, at most {:.0?} MB so far",
            options.scope,
            best_of(1, &adapters, &options),
            peak_memory()
        );
    }
}
