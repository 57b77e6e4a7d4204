//! What the code of the authors of KnOTS, Core Space and EigenLoRAx computed; it may not be passed on.

use std::path::Path;

use eigenmix_merging::Method;

use crate::golden_components::assert_components_are_those_of;
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

pub fn raw_centred_components_are_those_of_the_authors(merging: &Path) {
    assert_components_are_those_of(merging, TOLERANCE);
}
