//! The principal components of a folder of adapters against those that other software computed.

#[path = "../random_adapters/projector.rs"]
mod projector;

use std::path::Path;

use eigenmix_adapter::AdapterFile;
use eigenmix_eigenlorax::{Basis, Components, ExtractOptions, Factors, extract};
use eigenmix_tensors::TensorFile;
use projector::{projector, relative_difference};

/// Asserts that the raw, centred factors of the group `same` have the components in
/// `principal_components.safetensors` beside them.
///
/// - directory: has the adapters in `adapters/same-{0,1,2}`
/// - tolerance: relative to an eigenvalue, and to the largest entry of a projector
pub fn assert_components_are_those_of(directory: &Path, tolerance: f32) {
    let adapters: Vec<_> = (0..3)
        .map(|index| directory.join(format!("adapters/same-{index}")))
        .map(|path| AdapterFile::open(&path).expect("a golden adapter"))
        .collect();
    let options = ExtractOptions {
        factors: Factors::Raw,
        center: true,
        ..ExtractOptions::new(Components::Count(5))
    };
    let extraction = extract(&adapters, &options, &|_, _| {}).expect("an extraction");
    let reference = TensorFile::open(&directory.join("principal_components.safetensors"))
        .expect("the golden components");
    assert_eq!(extraction.subspace.modules.len(), 3);
    for (path, module) in &extraction.subspace.modules {
        for (factor, basis) in [("B", &module.left), ("A", &module.right)] {
            let key = format!("base_model.model.{path}.lora_{factor}.weight");
            assert_like_the_reference(basis, &reference, &key, tolerance);
        }
    }
}

fn assert_like_the_reference(basis: &Basis, reference: &TensorFile, key: &str, tolerance: f32) {
    let read = |name: &str| {
        let values = reference.read_f32(&format!("{key}/{name}"));
        values.unwrap_or_else(|error| panic!("{error}"))
    };
    let eigenvalues = read("eigenvalues");
    assert_eq!(basis.principal(), eigenvalues.len());
    for (ours, theirs) in basis.variance().iter().zip(&eigenvalues) {
        // The smallest gap between neighbours is above 1 %.
        assert!(
            (ours - theirs).abs() < tolerance * theirs,
            "{key}: {ours} and {theirs}"
        );
    }
    let ours = projector(basis.vectors(), 5);
    let difference = relative_difference(ours.values(), &read("projector_top5"));
    println!("{key}: {difference:e}");
    assert!(difference < tolerance, "{key}: {difference}");
}
