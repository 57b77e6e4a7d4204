//! Reads an adapter as PEFT writes it, says what it does to each module, and writes it as mlx-lm
//! would.
//!
//! `cargo run -p eigenmix-adapter --example inspect_and_convert`

use std::collections::BTreeMap;

use eigenmix_adapter::{
    Adapter, AdapterFile, Dialect, LoraModule, PeftConfig, SaveOptions, Style, TargetModules,
};
use eigenmix_tensors::Matrix;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let (peft, mlx) = (directory.path().join("peft"), directory.path().join("mlx"));
    adapter()?.save(&peft, &SaveOptions::default())?;

    // Names and shapes are checked now, values when they are read.
    let file = AdapterFile::open(&peft)?;
    file.require_clean()?;
    println!("for {}:", file.config().base_model().unwrap_or("any model"));
    for path in file.module_paths() {
        let module = file.module(path)?;
        println!(
            "  {path}: rank {}, ‖ΔW‖ {:.3}",
            module.rank(),
            module.update().norm()
        );
    }
    let style = Style::new(Dialect::Mlx);
    file.load()?
        .save_as(&mlx, &style, &SaveOptions::default())?;

    let converted = AdapterFile::open(&mlx)?;
    println!(
        "the same in the dialect of {}:",
        converted.style().dialect()
    );
    for path in converted.module_paths() {
        println!("  {path}: {:.3}", converted.module(path)?.update().norm());
    }
    Ok(())
}

/// Two modules of rank 2; scaling 2 is alpha over rank.
fn adapter() -> Result<Adapter, Box<dyn std::error::Error>> {
    let factor = |rows, cols| Matrix::from_fn(rows, cols, |row, col| 0.1 * (row + 2 * col) as f32);
    let module = || LoraModule::new(factor(6, 2), factor(2, 4), 2.0);
    let modules = BTreeMap::from([
        ("model.layers.0.self_attn.q_proj".to_owned(), module()),
        ("model.layers.0.self_attn.v_proj".to_owned(), module()),
    ]);
    let targets = TargetModules::Names(vec!["q_proj".to_owned(), "v_proj".to_owned()]);
    let task = Some("CAUSAL_LM");
    let config = PeftConfig::lora("org/base", 2, targets, &[], task, &BTreeMap::new())?;
    Ok(Adapter::new(config, modules))
}
