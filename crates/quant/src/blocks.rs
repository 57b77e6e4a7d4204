//! GGUF's blocks of 32 values, decoded. Each value is rounded where ggml's reference rounds it, so
//! the results are equal to the bit.

use crate::Lookup;

/// The sixteen values of IQ4_NL and IQ4_XS.
pub const IQ4_VALUES: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
    89.0, 113.0,
];

/// Four-bit codes as numbers.
pub const CODES: [f32; 16] = [
    0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
];

/// The same less eight.
pub const SIGNED: [f32; 16] = [
    -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0,
];

/// The half-precision number at `offset`.
#[inline(always)]
pub(crate) fn half_at(block: &[u8], offset: usize) -> f32 {
    widened(u16::from_le_bytes([block[offset], block[offset + 1]]))
}

#[inline(always)]
fn part<const N: usize>(block: &[u8], offset: usize) -> &[u8; N] {
    let part = block[offset..].first_chunk();
    part.expect("a block is as long as its format says")
}

/// Values without blocks.
#[inline(always)]
pub(crate) fn plain_f32(bytes: &[u8], values: &mut [f32]) {
    let (stored, _) = bytes.as_chunks();
    for (value, &stored) in values.iter_mut().zip(stored) {
        *value = f32::from_le_bytes(stored);
    }
}

#[inline(always)]
pub(crate) fn plain_bf16(bytes: &[u8], values: &mut [f32]) {
    let (stored, _) = bytes.as_chunks();
    for (value, &stored) in values.iter_mut().zip(stored) {
        // The upper half of an f32.
        *value = f32::from_bits(u32::from(u16::from_le_bytes(stored)) << 16);
    }
}

#[inline(always)]
pub(crate) fn plain_f16(bytes: &[u8], values: &mut [f32]) {
    let (stored, _) = bytes.as_chunks();
    for (value, &stored) in values.iter_mut().zip(stored) {
        *value = widened(u16::from_le_bytes(stored));
    }
}

/// A half-precision number (its bits) in f32, exactly, without branches, so that loops over it vectorise.
///
/// Shifted into an f32's place, its exponent is 112 too small; a multiplication by 2¹¹² mends that,
/// of subnormal numbers too. Infinities and NaN get the largest exponent by hand.
#[inline(always)]
pub fn widened(bits: u16) -> f32 {
    const TWO_TO_112: f32 = f32::from_bits((127 + 112) << 23);
    const INFINITE: u32 = 0x7c00 << 13;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let scaled = (f32::from_bits(magnitude) * TWO_TO_112).to_bits();
    let special = if magnitude >= INFINITE { 0xff << 23 } else { 0 };
    f32::from_bits(scaled | special | u32::from(bits & 0x8000) << 16)
}

/// x = (q − 8) · d
#[inline(always)]
pub(crate) fn q4_0<L: Lookup>(block: &[u8; 18], values: &mut [f32; 32]) {
    // SAFETY: whoever chose the lookup has its unit.
    unsafe {
        L::halves(&SIGNED, half_at(block, 0), None, part(block, 2), values);
    };
}

/// x = q · d + m
#[inline(always)]
pub(crate) fn q4_1<L: Lookup>(block: &[u8; 20], values: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    // SAFETY: as above.
    unsafe { L::halves(&CODES, d, Some(m), part(block, 4), values) };
}

/// The bit of value `index`, as the fifth of its code.
#[inline(always)]
fn fifth_bit(fifth: u32, index: usize) -> i32 {
    ((fifth >> index & 1) << 4) as i32
}

/// x = (q − 16) · d, of five bits: four in the codes, the fifth of value i in bit i of a word.
#[inline(always)]
pub(crate) fn q5_0(block: &[u8; 22], values: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let fifth = u32::from_le_bytes(*part(block, 2));
    let codes = part::<16>(block, 6);
    let (low, high) = values.split_at_mut(16);
    for (index, ((low, high), &code)) in low.iter_mut().zip(high).zip(codes).enumerate() {
        *low = ((i32::from(code & 15) | fifth_bit(fifth, index)) - 16) as f32 * d;
        *high = ((i32::from(code >> 4) | fifth_bit(fifth, index + 16)) - 16) as f32 * d;
    }
}

/// x = q · d + m, of five bits.
#[inline(always)]
pub(crate) fn q5_1(block: &[u8; 24], values: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let fifth = u32::from_le_bytes(*part(block, 4));
    let codes = part::<16>(block, 8);
    let (low, high) = values.split_at_mut(16);
    for (index, ((low, high), &code)) in low.iter_mut().zip(high).zip(codes).enumerate() {
        *low = (i32::from(code & 15) | fifth_bit(fifth, index)) as f32 * d + m;
        *high = (i32::from(code >> 4) | fifth_bit(fifth, index + 16)) as f32 * d + m;
    }
}

/// x = q · d, of eight bits with a sign.
#[inline(always)]
pub(crate) fn q8_0(block: &[u8; 34], values: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (value, &code) in values.iter_mut().zip(part::<32>(block, 2)) {
        *value = f32::from(code.cast_signed()) * d;
    }
}

/// x = table[q] · d
#[inline(always)]
pub(crate) fn iq4_nl<L: Lookup>(block: &[u8; 18], values: &mut [f32; 32]) {
    // SAFETY: as above.
    unsafe {
        L::halves(&IQ4_VALUES, half_at(block, 0), None, part(block, 2), values);
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_half_precision_number_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let expected = f16::from_bits(bits).to_f32();
            let found = widened(bits);
            let is_equal = found.to_bits() == expected.to_bits();
            assert!(is_equal || expected.is_nan() && found.is_nan(), "{bits:#x}");
        }
    }
}
