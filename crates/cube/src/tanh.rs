//! The hyperbolic tangent, as exact near zero as elsewhere.

use burn::cubecl;
use cubecl::prelude::*;

/// Below this the series is exact in f32.
const SMALL: f32 = 0.25;

/// tanh x. What graphics interfaces compute is made of exponentials, whose difference near zero is mostly rounding,
/// and a soft cap of scores lives near zero.
#[cube]
pub(crate) fn tanh(x: f32) -> f32 {
    let mut found = x.tanh();
    if x.abs() < SMALL {
        let square = x * x;
        // x − x³/3 + 2x⁵/15 − 17x⁷/315 + 62x⁹/2835
        let mut sum = -0.053_968_254f32 + square * 0.021_869_49f32;
        sum = 0.133_333_33f32 + square * sum;
        sum = -0.333_333_33f32 + square * sum;
        found = x + x * square * sum;
    }
    found
}
