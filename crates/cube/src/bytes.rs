//! Bytes in the words of a buffer, as kernels read them.

use burn::cubecl;
use cubecl::prelude::*;

/// The byte at a place, without a sign.
#[cube]
pub(crate) fn byte(words: &[u32], place: usize) -> u32 {
    let shift = (place % 4) as u32 * 8u32;
    (words[place / 4] >> shift) & 255u32
}

/// The byte at a place, with a sign, as a number.
#[cube]
pub(crate) fn signed(words: &[u32], place: usize) -> f32 {
    let byte = byte(words, place);
    let mut number = byte as f32;
    if byte > 127u32 {
        number -= 256.0f32;
    }
    number
}

/// The half-precision number at an even place.
///
/// Shifted into an f32's place, its exponent is 112 too small; a multiplication by 2¹¹² mends that. A device may
/// take subnormal numbers for zero, so that those are made of their fraction. Infinities and NaN, which no scale
/// is, become large numbers.
#[cube]
pub(crate) fn half(words: &[u32], place: usize) -> f32 {
    let shift = (place % 4) as u32 * 8u32;
    let bits = (words[place / 4] >> shift) & 0xffffu32;
    let exponent = (bits >> 10u32) & 31u32;
    let fraction = bits & 1023u32;
    let mut number = fraction as f32 * SUBNORMAL;
    if exponent > 0u32 {
        number = f32::reinterpret(((exponent + 112u32) << 23u32) | (fraction << 13u32));
    }
    if bits > 0x7fffu32 {
        number = -number;
    }
    number
}

/// 2⁻²⁴
const SUBNORMAL: f32 = 1.0 / 16_777_216.0;
