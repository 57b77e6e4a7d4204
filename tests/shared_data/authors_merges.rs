//! What the code of the authors of KnOTS, Core Space and EigenLoRAx computed; it may not be passed on.

use std::path::Path;

use eigenmix_adapter::AdapterFile;
use eigenmix_eigenlorax::{Components, ExtractOptions, Factors, extract};
use eigenmix_merging::Method;
use eigenmix_tensors::{Matrix, TensorFile};

use crate::golden_merges::{GoldenCase, GoldenMerges, Pair};
use crate::relative_difference::relative_difference;
use crate::vanishing_directions::assert_equal_but_for_vanishing_directions;

/// Relative to the largest entry. Their KnOTS decomposes dense f32 products: 8e-6 at worst.
const TOLERANCE: f32 = 2e-5;

/// Whether adapters of rank 2, 4 and 3 give TSV triplets of singular value zero: the share of each
/// is 4 triplets, or 3 in Core Space.
fn takes_zero_triplets(case: &GoldenCase) -> bool {
    case.options.method == Method::Tsv && case.group == "mixed"
}

/// 13 of the 72 depend on directions that the rounding of the authors' decomposition chose.
pub fn what_the_authors_computed_is_what_the_saved_merge_does(merging: &Path) {
    let golden = GoldenMerges::open(merging, "merged.safetensors");
    let mut undetermined = 0;
    let cases = golden.cases();
    assert_eq!(cases.len(), 72);
    for case in cases {
        let pairs = golden.pairs(&case);
        if takes_zero_triplets(&case) || case.raises_vanishing_directions(&pairs) {
            undetermined += 1;
            continue;
        }
        for Pair { theirs, ours, .. } in &pairs {
            let difference = relative_difference(ours, theirs);
            assert!(difference < TOLERANCE, "{}: {difference}", case.name);
        }
    }
    assert_eq!(undetermined, 13);
}

pub fn isotropized_merges_agree_but_for_the_directions_that_vanish(merging: &Path) {
    let golden = GoldenMerges::open(merging, "merged.safetensors");
    let mut count = 0;
    for case in golden.cases() {
        let pairs = golden.pairs(&case);
        if takes_zero_triplets(&case) || !case.raises_vanishing_directions(&pairs) {
            continue;
        }
        count += 1;
        for pair in &pairs {
            assert_equal_but_for_vanishing_directions(&case.name, pair, f64::from(TOLERANCE));
        }
    }
    assert_eq!(count, 7);
}

/// Of the group `same`, top 5.
pub fn raw_centred_components_are_those_of_the_authors(merging: &Path) {
    let adapters: Vec<_> = (0..3)
        .map(|index| merging.join(format!("adapters/same-{index}")))
        .map(|path| AdapterFile::open(&path).expect("a golden adapter"))
        .collect();
    let options = ExtractOptions {
        factors: Factors::Raw,
        center: true,
        ..ExtractOptions::new(Components::Count(5))
    };
    let extraction = extract(&adapters, &options, &|_, _| {}).expect("an extraction");
    let theirs = TensorFile::open(&merging.join("principal_components.safetensors"));
    let theirs = theirs.expect("the golden components");
    let read = |name: String| theirs.read_f32(&name).expect("a tensor");
    assert_eq!(extraction.subspace.modules.len(), 3);
    for (path, module) in &extraction.subspace.modules {
        for (factor, basis) in [("B", &module.left), ("A", &module.right)] {
            let key = format!("base_model.model.{path}.lora_{factor}.weight");
            for (ours, theirs) in basis
                .variance()
                .iter()
                .zip(read(format!("{key}/eigenvalues")))
            {
                // The smallest gap between neighbours is above 1 %.
                let difference = (ours - theirs).abs() / theirs;
                assert!(difference < TOLERANCE, "{key}: {difference}");
            }
            let width = basis.vectors().rows();
            let first = Matrix::from_fn(width, 5, |row, column| basis.vectors().get(row, column));
            let ours = first.product(&first.transposed());
            let theirs = Matrix::new(width, width, read(format!("{key}/projector_top5")));
            let difference = relative_difference(&ours, &theirs);
            assert!(difference < TOLERANCE, "{key}: {difference}");
        }
    }
}
