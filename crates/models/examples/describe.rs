//! Every linear layer of a model, read from its `config.json` alone.
//!
//! `cargo run --release -p eigenmix-models --example describe -- datasets/quickstart/base/config.json`

use std::error::Error;
use std::path::PathBuf;

use eigenmix_models::{Architecture, HeadKind};

fn main() -> Result<(), Box<dyn Error>> {
    let path = match std::env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from("datasets/quickstart/base/config.json"),
    };
    let config = serde_json::from_slice(&std::fs::read(&path)?)?;
    let architecture = Architecture::from_json(&config, &path)?;
    let head = HeadKind::Classification { labels: 3 };
    let description = architecture.describe(head)?;
    println!("{} parameters", description.parameters);
    for layer in &description.layers {
        println!("{} [{}, {}]", layer.path, layer.d_out, layer.d_in);
    }
    Ok(())
}
