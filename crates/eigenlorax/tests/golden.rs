//! The principal components that the EigenLoRAx authors' code finds, from `shared/golden`.

mod random_adapters;
use std::path::{Path, PathBuf};

use eigenmix_adapter::AdapterFile;
use eigenmix_eigenlorax::{Basis, Components, ExtractOptions, Factors, extract};
use eigenmix_tensors::TensorFile;
use random_adapters::{largest_difference, projector};

/// `shared/golden/merging`, beside the repository on the machine where it was made.
fn golden() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/merging");
    if !path.exists() {
        println!("skipped: {} is not here", path.display());
        return None;
    }
    Some(path)
}

fn assert_like_the_authors(basis: &Basis, reference: &TensorFile, key: &str) {
    let eigenvalues = reference
        .read_f32(&format!("{key}/eigenvalues"))
        .expect("eigenvalues");
    assert_eq!(basis.principal(), eigenvalues.len());
    for (ours, theirs) in basis.variance().iter().zip(&eigenvalues) {
        // The smallest gap between neighbours is above 1 %.
        assert!(
            (ours - theirs).abs() < 1e-4 * theirs,
            "{key}: {ours} and {theirs}"
        );
    }
    let theirs = reference
        .read_f32(&format!("{key}/projector_top5"))
        .expect("a projector");
    let ours = projector(basis.vectors(), 5);
    assert!(largest_difference(ours.values(), &theirs) < 1e-4, "{key}");
}

#[test]
fn raw_centred_components_are_those_of_the_authors() {
    let Some(golden) = golden() else { return };
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
        assert_like_the_authors(&module.left, &reference, &key("B"));
        assert_like_the_authors(&module.right, &reference, &key("A"));
    }
}
