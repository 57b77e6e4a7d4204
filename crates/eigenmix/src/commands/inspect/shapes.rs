//! How many modules have which shape.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// The number of modules of one shape.
#[derive(Serialize)]
pub(super) struct ShapeCount {
    d_out: usize,
    d_in: usize,
    modules: usize,
}

impl fmt::Display for ShapeCount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} × [{}, {}]",
            self.modules, self.d_out, self.d_in
        )
    }
}

/// Counts the shapes `[d_out, d_in]`.
pub(super) fn count_shapes(shapes: impl Iterator<Item = [usize; 2]>) -> Vec<ShapeCount> {
    let mut counts: BTreeMap<[usize; 2], usize> = BTreeMap::new();
    for shape in shapes {
        *counts.entry(shape).or_default() += 1;
    }
    counts
        .into_iter()
        .map(|([d_out, d_in], modules)| ShapeCount {
            d_out,
            d_in,
            modules,
        })
        .collect()
}
