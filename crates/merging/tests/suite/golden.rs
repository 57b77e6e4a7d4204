//! Merges against `tests/golden/merging`: an implementation of the papers' formulas in f64 that
//! agrees with the authors' own code.

use std::path::PathBuf;

use crate::golden_merges::{GoldenMerges, Pair};
use crate::random_adapters::relative_difference;

pub fn directory() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/merging"
    ))
}

/// Relative to the largest entry; the references are rounded to f32, and ours are products of
/// factors in f32: 1.0e-6 at worst.
const TOLERANCE: f32 = 5e-6;

#[test]
fn every_golden_merge_is_what_the_saved_merge_does() {
    let golden = GoldenMerges::open(&directory(), "merged.safetensors");
    let cases = golden.cases();
    assert_eq!(cases.len(), 90);
    let (mut compared, mut worst) = (0, 0.0f32);
    for case in cases {
        let pairs = golden.pairs(&case);
        assert!(!case.raises_vanishing_directions(&pairs), "{}", case.name);
        for Pair { theirs, ours, .. } in &pairs {
            let difference = relative_difference(ours, theirs);
            assert!(difference < TOLERANCE, "{}: {difference}", case.name);
            worst = worst.max(difference);
            compared += 1;
        }
    }
    println!("{worst:e} at worst");
    assert_eq!(compared, 264, "modules");
}

#[test]
fn iso_cts_robust_and_compressed_merges_are_those_of_dense_matrices() {
    let golden = GoldenMerges::open(&directory(), "further.safetensors");
    let cases = golden.cases();
    assert_eq!(cases.len(), 156);
    let mut worst = 0.0f32;
    for case in cases {
        for Pair { theirs, ours, .. } in &golden.pairs(&case) {
            let difference = relative_difference(ours, theirs);
            assert!(difference < TOLERANCE, "{}: {difference}", case.name);
            worst = worst.max(difference);
        }
    }
    println!("{worst:e} at worst");
}
