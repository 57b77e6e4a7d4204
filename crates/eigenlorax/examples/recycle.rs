//! Extracts the subspace of three adapters, and asks how much of a fourth one lies in it.
//!
//! `cargo run -p eigenmix-eigenlorax --example recycle`

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::{
    Adapter, AdapterFile, LoadedAdapter, LoraModule, PeftConfig, SaveOptions, TargetModules,
};
use eigenmix_eigenlorax::{Components, ExtractOptions, ProjectOptions, Subspace, extract, project};
use eigenmix_tensors::Matrix;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let adapters: Vec<AdapterFile> = ["banking", "travel", "weather", "music"]
        .into_iter()
        .enumerate()
        .map(|(task, name)| saved(&directory.path().join(name), task))
        .collect::<Result<_, _>>()?;
    let (known, new) = adapters.split_at(3);

    let options = ExtractOptions::new(Components::Variance(0.95));
    let extraction = extract(known, &options, &|done, of| println!("{done} of {of}"))?;
    for (path, module) in &extraction.report.modules {
        println!(
            "{path}: {} of {} components on the left, {} of {} on the right",
            module.left.principal,
            module.left.available,
            module.right.principal,
            module.right.available
        );
    }
    let place = directory.path().join("subspace");
    extraction.subspace.save(&place, false)?;

    let subspace = Subspace::load(&place)?;
    for adapter in [&known[0], &new[0]] {
        let adapter = LoadedAdapter::read(adapter)?;
        let projection = project(&adapter, &subspace, &ProjectOptions::default())?;
        println!(
            "{}: {:.1} % of its update is lost",
            adapter.source.location,
            100.0 * projection.overall
        );
    }
    Ok(())
}

/// An adapter of one module whose update is a wave of its task.
fn saved(path: &Path, task: usize) -> Result<AdapterFile, Box<dyn std::error::Error>> {
    let wave = |rows, cols| {
        Matrix::from_fn(rows, cols, |row, col| {
            ((row + 1) as f32 * (0.3 * task as f32 + col as f32 + 1.0)).sin()
        })
    };
    let module = LoraModule::new(wave(24, 2), wave(16, 2).transposed(), 0.5);
    let modules = BTreeMap::from([("encoder.layer.0.query".to_owned(), module)]);
    let targets = TargetModules::Names(vec!["query".to_owned()]);
    let config = PeftConfig::lora("org/base", 2, targets, &[], None, &BTreeMap::new())?;
    Adapter::new(config, modules).save(path, &SaveOptions::default())?;
    Ok(AdapterFile::open(path)?)
}
