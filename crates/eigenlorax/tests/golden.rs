//! The principal components of `tests/golden/merging`: those of an implementation in f64 that agrees
//! with the EigenLoRAx authors' code.

mod golden_components;

use std::path::Path;

/// The references are rounded to f32.
const TOLERANCE: f32 = 1e-5;

#[test]
fn raw_centred_components_are_those_of_the_reference() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/merging");
    golden_components::assert_components_are_those_of(Path::new(golden), TOLERANCE);
}
