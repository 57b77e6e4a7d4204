//! The values of GGUF's blocks, as ggml's reference decodes them.

use burn::cubecl;
use cubecl::prelude::*;
use eigenmix_quant::Encoding;

use crate::bytes::{byte, half, signed};

/// A value of a block.
///
/// - table: what four-bit codes stand for, in the formats that have a table
/// - start: the block's first byte
/// - index: which of its values
#[cube]
pub(crate) fn value_of_block(
    words: &[u32],
    table: &[f32],
    start: usize,
    index: usize,
    #[comptime] format: Encoding,
) -> f32 {
    match comptime!(format) {
        Encoding::F32 => f32::reinterpret(words[start / 4]),
        Encoding::F16 => half(words, start),
        // The upper half of an f32.
        Encoding::Bf16 => {
            let bits = byte(words, start) | (byte(words, start + 1) << 8u32);
            f32::reinterpret(bits << 16u32)
        }
        Encoding::Q4_0 => (halves(words, start + 2, index) as f32 - 8.0f32) * half(words, start),
        Encoding::Q4_1 => {
            halves(words, start + 4, index) as f32 * half(words, start) + half(words, start + 2)
        }
        Encoding::Q5_0 => {
            let code = halves(words, start + 6, index) | fifth_bit(words, start + 2, index);
            (code as f32 - 16.0f32) * half(words, start)
        }
        Encoding::Q5_1 => {
            let code = halves(words, start + 8, index) | fifth_bit(words, start + 4, index);
            code as f32 * half(words, start) + half(words, start + 2)
        }
        Encoding::Q8_0 => signed(words, start + 2 + index) * half(words, start),
        Encoding::Q2K => q2_k(words, start, index),
        Encoding::Q3K => q3_k(words, start, index),
        Encoding::Q4K => {
            let code = nibble_of_32(words, start + 16, index);
            scaled(words, start, index, code)
        }
        Encoding::Q5K => {
            let group = (index / 32) as u32;
            let fifth = (byte(words, start + 16 + index % 32) >> group) & 1u32;
            let code = nibble_of_32(words, start + 48, index) | (fifth << 4u32);
            scaled(words, start, index, code)
        }
        Encoding::Q6K => q6_k(words, start, index),
        Encoding::Iq4Nl => table[halves(words, start + 2, index) as usize] * half(words, start),
        Encoding::Iq4Xs => iq4_xs(words, table, start, index),
    }
}

/// A code of 32 in sixteen bytes: the low halves first, then the high ones.
#[cube]
fn halves(words: &[u32], start: usize, index: usize) -> u32 {
    let shift = (index / 16) as u32 * 4u32;
    (byte(words, start + index % 16) >> shift) & 15u32
}

/// A code of 64 in 32 bytes: the low halves first, then the high ones.
#[cube]
fn nibble_of_32(words: &[u32], start: usize, index: usize) -> u32 {
    let group = index / 32;
    let shift = (group % 2) as u32 * 4u32;
    (byte(words, start + group / 2 * 32 + index % 32) >> shift) & 15u32
}

/// The bit of a value in a word, as the fifth of its code.
#[cube]
fn fifth_bit(words: &[u32], start: usize, index: usize) -> u32 {
    let shift = (index % 8) as u32;
    ((byte(words, start + index / 8) >> shift) & 1u32) << 4u32
}

/// d · scale · q − d_min · minimum, of two bits, in groups of sixteen.
#[cube]
fn q2_k(words: &[u32], start: usize, index: usize) -> f32 {
    let group = index / 16;
    let scale = byte(words, start + group);
    let first = group / 8 * 32 + group % 2 * 16;
    let shift = (group % 8 / 2 * 2) as u32;
    let code = (byte(words, start + 16 + first + index % 16) >> shift) & 3u32;
    let factor = half(words, start + 80) * (scale & 15u32) as f32;
    factor * code as f32 - half(words, start + 82) * (scale >> 4u32) as f32
}

/// d · (scale − 32) · q, of three bits with a sign, in groups of sixteen.
#[cube]
fn q3_k(words: &[u32], start: usize, index: usize) -> f32 {
    let group = index / 16;
    let scales = start + 96;
    let low = (byte(words, scales + group % 8) >> ((group / 8 * 4) as u32)) & 15u32;
    let high = (byte(words, scales + 8 + group % 4) >> ((group / 4 * 2) as u32)) & 3u32;
    let scale = (low | (high << 4u32)) as f32 - 32.0f32;
    let first = group / 8 * 32 + group % 2 * 16;
    let shift = (group % 8 / 2 * 2) as u32;
    let code = (byte(words, start + 32 + first + index % 16) >> shift) & 3u32;
    let third = byte(words, start + group % 2 * 16 + index % 16) >> ((group / 2) as u32);
    // A bit that is not set takes four away.
    let missing = (1u32 - (third & 1u32)) << 2u32;
    half(words, start + 108) * scale * (code as f32 - missing as f32)
}

/// d · scale · q − d_min · minimum, in groups of 32, with six bits of both.
#[cube]
fn scaled(words: &[u32], start: usize, index: usize, code: u32) -> f32 {
    let group = index / 32;
    let packed = start + 4;
    let mut scale = byte(words, packed + group) & 63u32;
    let mut minimum = byte(words, packed + group + 4) & 63u32;
    if group > 3 {
        let both = byte(words, packed + group + 4);
        scale = (both & 15u32) | ((byte(words, packed + group - 4) >> 6u32) << 4u32);
        minimum = (both >> 4u32) | ((byte(words, packed + group) >> 6u32) << 4u32);
    }
    half(words, start) * scale as f32 * code as f32 - half(words, start + 2) * minimum as f32
}

/// d · scale · (q − 32), of six bits, in groups of sixteen.
#[cube]
fn q6_k(words: &[u32], start: usize, index: usize) -> f32 {
    let group = index / 16;
    let part = group / 8;
    let quarter = group % 8 / 2;
    let at = group % 2 * 16 + index % 16;
    let upper = byte(words, start + 128 + part * 32 + at) >> ((quarter * 2) as u32);
    let lower = byte(words, start + part * 64 + quarter % 2 * 32 + at);
    let lower = (lower >> ((quarter / 2 * 4) as u32)) & 15u32;
    let code = lower | ((upper & 3u32) << 4u32);
    half(words, start + 208) * signed(words, start + 192 + group) * (code as f32 - 32.0f32)
}

/// d · (scale − 32) · table\[q\], of four bits, in groups of 32.
#[cube]
fn iq4_xs(words: &[u32], table: &[f32], start: usize, index: usize) -> f32 {
    let group = index / 32;
    let low = (byte(words, start + 4 + group / 2) >> ((group % 2 * 4) as u32)) & 15u32;
    let high = byte(words, start + 2) | (byte(words, start + 3) << 8u32);
    let high = (high >> ((group * 2) as u32)) & 3u32;
    let scale = (low | (high << 4u32)) as f32 - 32.0f32;
    let code = halves(words, start + 8 + group * 16, index % 32);
    half(words, start) * scale * table[code as usize]
}
