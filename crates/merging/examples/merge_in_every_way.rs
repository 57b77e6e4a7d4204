//! Merges two adapters in every space with every method, and says what came of it.
//!
//! `cargo run -p eigenmix-merging --example merge_in_every_way`

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::{Adapter, AdapterFile, LoraModule, PeftConfig, SaveOptions, TargetModules};
use eigenmix_merging::{MethodKind, RequestedOptions, Space, merge};
use eigenmix_tensors::Matrix;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let adapters = [
        saved(&directory.path().join("banking"), 0.0)?,
        saved(&directory.path().join("travel"), 1.0)?,
    ];
    for space in Space::ALL {
        for method in MethodKind::ALL {
            // The defaults of the method and of the space; a file may hold the same request.
            let options = RequestedOptions::new(space, method).options()?;
            let merged = merge(&adapters, &options, &|_, _| {})?;
            let module = &merged.report.modules["encoder.layer.0.query"];
            println!(
                "{space:<6} {method:<10} rank {:>2}, ‖ΔW‖ {:>6.3} of {:.3} and {:.3}",
                module.rank, module.norm, module.input_norms[0], module.input_norms[1]
            );
        }
    }
    Ok(())
}

/// An adapter of one module whose update is a wave.
fn saved(path: &Path, phase: f32) -> Result<AdapterFile, Box<dyn std::error::Error>> {
    let wave = |rows, cols| {
        Matrix::from_fn(rows, cols, |row, col| {
            ((row + 1) as f32 * (phase + col as f32 + 1.0)).sin()
        })
    };
    let module = LoraModule::new(wave(12, 2), wave(8, 2).transposed(), 0.5);
    let modules = BTreeMap::from([("encoder.layer.0.query".to_owned(), module)]);
    let targets = TargetModules::Names(vec!["query".to_owned()]);
    let config = PeftConfig::lora("org/base", 2, targets, &[], None, &BTreeMap::new())?;
    Adapter::new(config, modules).save(path, &SaveOptions::default())?;
    Ok(AdapterFile::open(path)?)
}
