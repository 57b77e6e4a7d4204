//! The principal components of `tests/golden/merging`: those of an implementation in f64 that agrees
//! with the EigenLoRAx authors' code.

mod random_adapters;
use std::path::PathBuf;

use eigenmix_adapter::AdapterFile;
use eigenmix_eigenlorax::{Basis, Components, ExtractOptions, Factors, extract};
use eigenmix_tensors::TensorFile;
use random_adapters::{largest_difference, projector};

fn golden() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/merging"
    ))
}

/// Of an eigenvalue, and of a projector's entries, which are 1 at most; both are rounded to f32.
const TOLERANCE: f32 = 1e-5;

fn assert_like_the_reference(basis: &Basis, reference: &TensorFile, key: &str) {
    let eigenvalues = reference
        .read_f32(&format!("{key}/eigenvalues"))
        .expect("eigenvalues");
    assert_eq!(basis.principal(), eigenvalues.len());
    for (ours, theirs) in basis.variance().iter().zip(&eigenvalues) {
        // The smallest gap between neighbours is above 1 %.
        assert!(
            (ours - theirs).abs() < TOLERANCE * theirs,
            "{key}: {ours} and {theirs}"
        );
    }
    let theirs = reference
        .read_f32(&format!("{key}/projector_top5"))
        .expect("a projector");
    let ours = projector(basis.vectors(), 5);
    let difference = largest_difference(ours.values(), &theirs);
    println!("{key}: {difference:e}");
    assert!(difference < TOLERANCE, "{key}: {difference}");
}

#[test]
fn raw_centred_components_are_those_of_the_reference() {
    let golden = golden();
    let adapters: Vec<_> = (0..3)
        .map(|index| golden.join(format!("adapters/same-{index}")))
        .map(|path| AdapterFile::open(&path).expect("a golden adapter"))
        .collect();
    let options = ExtractOptions {
        factors: Factors::Raw,
        center: true,
        ..ExtractOptions::new(Components::Count(5))
    };
    let extraction = extract(&adapters, &options, &|_, _| {}).expect("an extraction");
    let reference = TensorFile::open(&golden.join("principal_components.safetensors"))
        .expect("the golden components");
    assert_eq!(extraction.subspace.modules.len(), 3);
    for (path, module) in &extraction.subspace.modules {
        let key = |factor| format!("base_model.model.{path}.lora_{factor}.weight");
        assert_like_the_reference(&module.left, &reference, &key("B"));
        assert_like_the_reference(&module.right, &reference, &key("A"));
    }
}
