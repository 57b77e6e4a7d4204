//! GGUF's blocks of 256 values ("K"), decoded: eight or sixteen groups, each with a scale of a few
//! bits. Each value is rounded where ggml's reference rounds it.

use crate::Lookup;
use crate::blocks::{IQ4_VALUES, half_at};

/// x = d · scale · q − d_min · minimum, of two bits, in groups of sixteen.
#[inline(always)]
pub(crate) fn q2_k(block: &[u8; 84], values: &mut [f32; 256]) {
    let (scales, codes) = (&block[..16], &block[16..80]);
    let (d, d_min) = (half_at(block, 80), half_at(block, 82));
    let (groups, _) = values.as_chunks_mut::<16>();
    for (index, (group, &scale)) in groups.iter_mut().zip(scales).enumerate() {
        let (scale, minimum) = (d * f32::from(scale & 15), d_min * f32::from(scale >> 4));
        // 128 values share 32 bytes, 32 of them at each shift.
        let (first, shift) = (index / 8 * 32 + index % 2 * 16, index % 8 / 2 * 2);
        for (value, code) in group.iter_mut().zip(&codes[first..first + 16]) {
            *value = scale * (u32::from(*code) >> shift & 3) as f32 - minimum;
        }
    }
}

/// x = d · (scale − 32) · q, of three bits with a sign, in groups of sixteen.
#[inline(always)]
pub(crate) fn q3_k(block: &[u8; 110], values: &mut [f32; 256]) {
    let (third, codes, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half_at(block, 108);
    let (groups, _) = values.as_chunks_mut::<16>();
    for (index, group) in groups.iter_mut().enumerate() {
        let low = scales[index % 8] >> (index / 8 * 4) & 15;
        let high = scales[8 + index % 4] >> (index / 4 * 2) & 3;
        let scale = d * f32::from(i16::from(low | high << 4) - 32);
        let (first, shift) = (index / 8 * 32 + index % 2 * 16, index % 8 / 2 * 2);
        let third = &third[index % 2 * 16..][..16];
        for ((value, code), third) in group.iter_mut().zip(&codes[first..first + 16]).zip(third) {
            // A bit that is not set takes four away.
            let missing = (i32::from(*third) >> (index / 2) & 1 ^ 1) << 2;
            *value = scale * ((i32::from(*code) >> shift & 3) - missing) as f32;
        }
    }
}

/// The six-bit scale and minimum of a group of Q4_K and Q5_K.
#[inline(always)]
pub fn scale_and_minimum(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, minimum) = match group {
        0..4 => (packed[group] & 63, packed[group + 4] & 63),
        _ => (
            packed[group + 4] & 15 | packed[group - 4] >> 6 << 4,
            packed[group + 4] >> 4 | packed[group] >> 6 << 4,
        ),
    };
    (f32::from(scale), f32::from(minimum))
}

/// x = d · scale · q − d_min · minimum, of four bits, in groups of 32.
#[inline(always)]
pub(crate) fn q4_k(block: &[u8; 144], values: &mut [f32; 256]) {
    let (d, d_min) = (half_at(block, 0), half_at(block, 2));
    let (scales, codes) = (&block[4..16], &block[16..]);
    let (groups, _) = values.as_chunks_mut::<32>();
    for (index, group) in groups.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(scales, index);
        let (scale, minimum) = (d * scale, d_min * minimum);
        let (codes, shift) = (&codes[index / 2 * 32..][..32], index % 2 * 4);
        for (value, code) in group.iter_mut().zip(codes) {
            *value = scale * (u32::from(*code) >> shift & 15) as f32 - minimum;
        }
    }
}

/// As [`q4_k`], of five bits.
#[inline(always)]
pub(crate) fn q5_k(block: &[u8; 176], values: &mut [f32; 256]) {
    let (d, d_min) = (half_at(block, 0), half_at(block, 2));
    let (scales, fifth, codes) = (&block[4..16], &block[16..48], &block[48..]);
    let (groups, _) = values.as_chunks_mut::<32>();
    for (index, group) in groups.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(scales, index);
        let (scale, minimum) = (d * scale, d_min * minimum);
        let (codes, shift) = (&codes[index / 2 * 32..][..32], index % 2 * 4);
        for ((value, code), fifth) in group.iter_mut().zip(codes).zip(fifth) {
            let code = u32::from(*code) >> shift & 15 | (u32::from(*fifth) >> index & 1) << 4;
            *value = scale * code as f32 - minimum;
        }
    }
}

/// x = d · scale · (q − 32), of six bits, in groups of sixteen.
#[inline(always)]
pub(crate) fn q6_k(block: &[u8; 210], values: &mut [f32; 256]) {
    let (codes, upper, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    let (groups, _) = values.as_chunks_mut::<16>();
    for (index, (group, scale)) in groups.iter_mut().zip(scales).enumerate() {
        let scale = d * f32::from(scale.cast_signed());
        // 128 values share 64 bytes of codes and 32 of upper bits; 32 values are at each shift.
        let (half, quarter, sixteen) = (index / 8, index % 8 / 2, index % 2 * 16);
        let codes = &codes[half * 64 + quarter % 2 * 32 + sixteen..][..16];
        let upper = &upper[half * 32 + sixteen..][..16];
        for ((value, code), upper) in group.iter_mut().zip(codes).zip(upper) {
            let upper = (i32::from(*upper) >> (quarter * 2) & 3) << 4;
            let code = i32::from(*code) >> (quarter / 2 * 4) & 15 | upper;
            *value = scale * (code - 32) as f32;
        }
    }
}

/// x = d · (scale − 32) · table[q], of four bits, in groups of 32.
#[inline(always)]
pub(crate) fn iq4_xs<L: Lookup>(block: &[u8; 136], values: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    let (low, codes) = (&block[4..8], block[8..].as_chunks::<16>().0);
    let (groups, _) = values.as_chunks_mut::<32>();
    for (index, (group, codes)) in groups.iter_mut().zip(codes).enumerate() {
        let low = i32::from(low[index / 2] >> (index % 2 * 4) & 15);
        let scale = d * ((low | i32::from(high >> (index * 2) & 3) << 4) - 32) as f32;
        // SAFETY: whoever chose the lookup has its unit.
        unsafe { L::halves(&IQ4_VALUES, scale, None, codes, group) };
    }
}
