//! Two adapters: what they share, one adapter of both, and how much of that lies in what they share.
//!
//! `cargo run -p eigenmix-merging --example extract_and_merge`, or with the directories of two
//! adapters behind `--`; without, two of the quick start are taken.

use std::path::Path;

use eigenmix_adapter::AdapterFile;
use eigenmix_eigenlorax::{Components, ExtractOptions, Subspace, extract};
use eigenmix_merging::{MergeOptions, Method, Space, merge};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let quickstart = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../datasets/quickstart/adapters"
    );
    let mut directories: Vec<String> = std::env::args().skip(1).collect();
    if directories.is_empty() {
        directories = ["gym", "library"]
            .map(|name| format!("{quickstart}/{name}"))
            .to_vec();
    }
    let adapters: Vec<AdapterFile> = directories
        .iter()
        .map(|directory| AdapterFile::open(Path::new(directory)))
        .collect::<Result<_, _>>()?;
    let output = tempfile::tempdir()?;

    let options = ExtractOptions::new(Components::Count(4));
    let extraction = extract(&adapters, &options, &|_, _| {})?;
    extraction
        .subspace
        .save(&output.path().join("subspace"), false)?;

    let options = MergeOptions::new(Space::Core, Method::Ties { density: 0.2 });
    let merged = merge(&adapters, &options, &|_, _| {})?.adapter;
    merged.save(&output.path().join("merged"), &Default::default())?;

    let subspace = Subspace::load(&output.path().join("subspace"))?;
    for (path, bases) in &subspace.modules {
        let Some(module) = merged.modules.get(path) else {
            continue;
        };
        // M = Uᵀ·ΔW·V has what of ΔW lies in both subspaces.
        let inside = bases.mixer_of(module).norm() / module.update().norm();
        println!(
            "{path}: {:.0} % of the merged update lies inside",
            100.0 * inside
        );
    }
    Ok(())
}
