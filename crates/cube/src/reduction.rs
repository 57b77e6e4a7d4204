//! Sums and maxima over the units of a cube.

use burn::cubecl;
use cubecl::prelude::*;

/// Σ of a value of each unit, for all of them.
///
/// - shared: a place for each unit, of which there is a power of two
#[cube]
pub(crate) fn sum_of_units(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    reduced(value, shared, false)
}

/// The largest value of all units, for all of them; otherwise as [`sum_of_units`].
#[cube]
pub(crate) fn largest_of_units(value: f32, shared: &mut Shared<[f32]>) -> f32 {
    reduced(value, shared, true)
}

#[cube]
fn reduced(value: f32, shared: &mut Shared<[f32]>, #[comptime] is_largest: bool) -> f32 {
    let unit = UNIT_POS as usize;
    // What was found before has been read.
    sync_cube();
    shared[unit] = value;
    sync_cube();
    let mut active = CUBE_DIM as usize / 2;
    while active > 0 {
        if unit < active {
            let other = shared[unit + active];
            if comptime!(is_largest) {
                if other > shared[unit] {
                    shared[unit] = other;
                }
            } else {
                shared[unit] += other;
            }
        }
        sync_cube();
        active /= 2;
    }
    shared[0]
}

/// How many units share a row of `width` values: a power of two.
pub(crate) fn units_for(width: usize) -> usize {
    width.div_ceil(4).next_power_of_two().clamp(32, 256)
}

/// A cube for each of `count` rows, in two dimensions, as one may be too short. There may be a few more cubes
/// than rows.
pub(crate) fn cubes_for(count: usize) -> CubeCount {
    /// What every device has.
    const MOST: usize = 65_535;
    let rows = count.div_ceil(MOST).max(1);
    CubeCount::Static(count.div_ceil(rows) as u32, rows as u32, 1)
}
