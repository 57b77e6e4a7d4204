//! The dot product of one vector with rows of an encoded weight, where codes are multiplied as they
//! are unpacked and scales are applied to sums: what generation spends its time on.

use std::borrow::Cow;

use eigenmix_quant::{
    CODES, EncodedMatrix, Encoding, IQ4_VALUES, SIGNED, scale_and_minimum, widened,
};

use crate::codes::Codes;

/// Values of the shortest blocks.
const BLOCK: usize = 32;

/// A vector x as the rows of a weight are multiplied with it.
pub(crate) struct FusedInput<'a> {
    /// `[d_in]`; of weights whose bytes hold neighbouring values, in each block first the values of
    /// the high halves, then those of the low ones.
    values: Cow<'a, [f32]>,
    /// The sum of each block of 32, for weights whose blocks have an offset.
    sums: Vec<f32>,
    kind: Kind,
}

/// The forms that have such a product.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Q4_0,
    Q4_1,
    Iq4Nl,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
    Codebook,
}

impl<'a> FusedInput<'a> {
    /// Nothing if there is no such product with this weight.
    pub fn new(input: &'a [f32], weight: &EncodedMatrix) -> Option<Self> {
        let kind = match weight.encoding() {
            Some(Encoding::Q4_0) => Kind::Q4_0,
            Some(Encoding::Q4_1) => Kind::Q4_1,
            Some(Encoding::Iq4Nl) => Kind::Iq4Nl,
            Some(Encoding::Q8_0) => Kind::Q8_0,
            Some(Encoding::Q4K) => Kind::Q4K,
            Some(Encoding::Q5K) => Kind::Q5K,
            Some(Encoding::Q6K) => Kind::Q6K,
            Some(_) => return None,
            None => {
                let matrix = weight.codebook()?;
                matrix.unrounded_parts()?;
                if !input.len().is_multiple_of(matrix.block()) {
                    return None;
                }
                Kind::Codebook
            }
        };
        let blocks = input.chunks_exact(BLOCK);
        let values = match kind {
            Kind::Codebook => blocks
                .clone()
                .flat_map(|block| {
                    let high = block.iter().step_by(2);
                    high.chain(block.iter().skip(1).step_by(2)).copied()
                })
                .collect(),
            _ => Cow::Borrowed(input),
        };
        let sums = match kind {
            Kind::Q4_1 | Kind::Q4K | Kind::Q5K => blocks.map(|block| block.iter().sum()).collect(),
            _ => Vec::new(),
        };
        Some(Self { values, sums, kind })
    }

    /// Row `row` · x.
    ///
    /// # Safety
    /// The unit of V must be present, and the weight must be the one that this was made for.
    #[inline(always)]
    pub unsafe fn dot<V: Codes>(&self, weight: &EncodedMatrix, row: usize) -> f32 {
        // SAFETY of all blocks: the caller's, and values are as many as the row has.
        if self.kind == Kind::Codebook {
            return unsafe { self.codebook::<V>(weight, row) };
        }
        let Some((_, bytes)) = weight.encoded_row(row) else {
            return 0.0;
        };
        unsafe {
            match self.kind {
                Kind::Q4_0 => self.halves::<V, 18, false>(bytes, &SIGNED),
                Kind::Q4_1 => self.halves::<V, 20, true>(bytes, &CODES),
                Kind::Iq4Nl => self.halves::<V, 18, false>(bytes, &IQ4_VALUES),
                Kind::Q8_0 => self.q8_0::<V>(bytes),
                Kind::Q4K => self.q4_k::<V, 144, false>(bytes),
                Kind::Q5K => self.q4_k::<V, 176, true>(bytes),
                Kind::Q6K => self.q6_k::<V>(bytes),
                Kind::Codebook => 0.0,
            }
        }
    }

    /// Sixteen bytes with a table: Σ `table[code]` · x over 32 values, before any scale.
    ///
    /// - HIGH_FIRST: whether the values of the high halves come first in x, not those of the low ones
    ///
    /// # Safety
    /// `codes` must be valid for sixteen bytes and `x` for 32 values.
    #[inline(always)]
    unsafe fn sixteen<V: Codes, const HIGH_FIRST: bool>(
        table: V::Table,
        codes: *const u8,
        x: *const f32,
    ) -> V {
        // SAFETY: the caller's.
        unsafe {
            let mut sum = V::splat(0.0);
            for lane in (0..16).step_by(V::LANES) {
                let codes = V::bytes(codes.add(lane));
                let (low, high) = (
                    V::look_up(table, codes),
                    V::look_up(table, V::shift_right::<4>(codes)),
                );
                let (first, second) = if HIGH_FIRST { (high, low) } else { (low, high) };
                sum = first.mul_add(V::load(x.add(lane)), sum);
                sum = second.mul_add(V::load(x.add(16 + lane)), sum);
            }
            sum
        }
    }

    /// Blocks of a scale, perhaps an offset, and sixteen bytes.
    #[inline(always)]
    unsafe fn halves<V: Codes, const BYTES: usize, const HAS_OFFSET: bool>(
        &self,
        row: &[u8],
        table: &[f32; 16],
    ) -> f32 {
        let (blocks, _) = row.as_chunks::<BYTES>();
        assert!(self.values.len() >= blocks.len() * BLOCK);
        assert!(!HAS_OFFSET || self.sums.len() >= blocks.len());
        // SAFETY: the values were just counted, and a block has sixteen bytes at its end.
        unsafe {
            let table = V::table(table);
            // Of the offsets every lane has the same sum.
            let (mut total, mut offsets) = ([V::splat(0.0); 2], V::splat(0.0));
            let mut x = self.values.as_ptr();
            for (index, block) in blocks.iter().enumerate() {
                let sum = Self::sixteen::<V, false>(table, block.as_ptr().add(BYTES - 16), x);
                let scale = V::splat_half(bits(block, 0));
                total[index % 2] = sum.mul_add(scale, total[index % 2]);
                if HAS_OFFSET {
                    let offset = V::splat_half(bits(block, 2));
                    offsets = offset.mul_add(V::splat(self.sums[index]), offsets);
                }
                x = x.add(BLOCK);
            }
            total[0].add(total[1]).total() + offsets.total() / V::LANES as f32
        }
    }

    #[inline(always)]
    unsafe fn q8_0<V: Codes>(&self, row: &[u8]) -> f32 {
        let (blocks, _) = row.as_chunks::<34>();
        assert!(self.values.len() >= blocks.len() * BLOCK);
        // SAFETY: the values were just counted.
        unsafe {
            let mut total = [V::splat(0.0); 2];
            let mut x = self.values.as_ptr();
            for (index, block) in blocks.iter().enumerate() {
                let mut sum = V::splat(0.0);
                for lane in (0..BLOCK).step_by(V::LANES) {
                    let codes = V::signed(block.as_ptr().add(2 + lane));
                    sum = codes.mul_add(V::load(x.add(lane)), sum);
                }
                total[index % 2] = sum.mul_add(V::splat_half(bits(block, 0)), total[index % 2]);
                x = x.add(BLOCK);
            }
            total[0].add(total[1]).total()
        }
    }

    /// Q4_K, and with a fifth bit Q5_K.
    #[inline(always)]
    unsafe fn q4_k<V: Codes, const BYTES: usize, const HAS_FIFTH: bool>(&self, row: &[u8]) -> f32 {
        let (blocks, _) = row.as_chunks::<BYTES>();
        assert!(self.values.len() >= blocks.len() * 256 && self.sums.len() >= blocks.len() * 8);
        // SAFETY: the values were just counted, and a block ends with 32 bytes of fifth bits, if it has
        // them, and 128 bytes of codes.
        unsafe {
            let (mut total, mut offsets) = ([V::splat(0.0); 2], 0.0);
            let mut x = self.values.as_ptr();
            for (block, sums) in blocks.iter().zip(self.sums.chunks_exact(8)) {
                let (d, d_min) = (half(block, 0), half(block, 2));
                let fifth = block.as_ptr().add(16);
                let codes = block.as_ptr().add(BYTES - 128);
                let mut minima = 0.0;
                for pair in 0..4 {
                    let mut group = [V::splat(0.0); 2];
                    for lane in (0..32).step_by(V::LANES) {
                        let bytes = V::bytes(codes.add(pair * 32 + lane));
                        let mut parts = [V::and(bytes, 15), V::shift_right::<4>(bytes)];
                        if HAS_FIFTH {
                            let bits = V::bytes(fifth.add(lane));
                            let bits = match pair {
                                0 => bits,
                                1 => V::shift_right::<2>(bits),
                                2 => V::shift_right::<4>(bits),
                                _ => V::shift_right::<6>(bits),
                            };
                            parts[0] = V::or(parts[0], V::shift_left::<4>(V::and(bits, 1)));
                            parts[1] = V::or(parts[1], V::shift_left::<3>(V::and(bits, 2)));
                        }
                        for (half, sum) in group.iter_mut().enumerate() {
                            let x = V::load(x.add(pair * 64 + half * 32 + lane));
                            *sum = V::number(parts[half]).mul_add(x, *sum);
                        }
                    }
                    for half in 0..2 {
                        let (scale, minimum) = scale_and_minimum(&block[4..16], pair * 2 + half);
                        total[half] = group[half].mul_add(V::splat(d * scale), total[half]);
                        minima += minimum * sums[pair * 2 + half];
                    }
                }
                offsets += d_min * minima;
                x = x.add(256);
            }
            total[0].add(total[1]).total() - offsets
        }
    }

    #[inline(always)]
    unsafe fn q6_k<V: Codes>(&self, row: &[u8]) -> f32 {
        let (blocks, _) = row.as_chunks::<210>();
        assert!(self.values.len() >= blocks.len() * 256);
        // SAFETY: the values were just counted; a block is 128 bytes of codes, 64 of upper bits, sixteen
        // scales with a sign, and d.
        unsafe {
            let mut total = [V::splat(0.0); 2];
            let offset = V::splat(-32.0);
            let mut x = self.values.as_ptr();
            for block in blocks {
                let d = half(block, 208);
                for part in 0..2 {
                    for sixteen in 0..2 {
                        let codes = block.as_ptr().add(part * 64 + sixteen * 16);
                        let upper = block.as_ptr().add(128 + part * 32 + sixteen * 16);
                        let mut quarters = [V::splat(0.0); 4];
                        for lane in (0..16).step_by(V::LANES) {
                            let (first, second) =
                                (V::bytes(codes.add(lane)), V::bytes(codes.add(32 + lane)));
                            let upper = V::bytes(upper.add(lane));
                            let with = |low, high| V::or(low, V::and(high, 0x30));
                            let parts = [
                                with(V::and(first, 15), V::shift_left::<4>(upper)),
                                with(V::and(second, 15), V::shift_left::<2>(upper)),
                                with(V::shift_right::<4>(first), upper),
                                with(V::shift_right::<4>(second), V::shift_right::<2>(upper)),
                            ];
                            for (quarter, sum) in quarters.iter_mut().enumerate() {
                                let at = part * 128 + quarter * 32 + sixteen * 16 + lane;
                                let number = V::number(parts[quarter]).add(offset);
                                *sum = number.mul_add(V::load(x.add(at)), *sum);
                            }
                        }
                        for (quarter, sum) in quarters.into_iter().enumerate() {
                            let scale = block[192 + part * 8 + quarter * 2 + sixteen].cast_signed();
                            let scale = V::splat(d * f32::from(scale));
                            total[quarter % 2] = sum.mul_add(scale, total[quarter % 2]);
                        }
                    }
                }
                x = x.add(256);
            }
            total[0].add(total[1]).total()
        }
    }

    #[inline(always)]
    unsafe fn codebook<V: Codes>(&self, weight: &EncodedMatrix, row: usize) -> f32 {
        let Some(matrix) = weight.codebook() else {
            return 0.0;
        };
        let Some((codes, table, scales)) = matrix.unrounded_parts() else {
            return 0.0;
        };
        let (d_in, block) = (self.values.len(), matrix.block());
        let codes = &codes[row * d_in / 2..][..d_in / 2];
        let scales = &scales[row * d_in / block..][..d_in / block];
        // SAFETY: the codes and scales are those of a row.
        unsafe {
            // The high halves come first here, and in the input.
            let table = V::table(table);
            let mut total = [V::splat(0.0); 2];
            let (mut x, mut codes) = (self.values.as_ptr(), codes.as_ptr());
            for (index, &scale) in scales.iter().enumerate() {
                let mut sum = V::splat(0.0);
                for _ in 0..block / BLOCK {
                    sum = sum.add(Self::sixteen::<V, true>(table, codes, x));
                    (x, codes) = (x.add(BLOCK), codes.add(16));
                }
                total[index % 2] = sum.mul_add(V::splat(scale), total[index % 2]);
            }
            total[0].add(total[1]).total()
        }
    }
}

/// The half-precision number at `offset` of a block.
#[inline(always)]
fn half(block: &[u8], offset: usize) -> f32 {
    widened(bits(block, offset))
}

#[inline(always)]
fn bits(block: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([block[offset], block[offset + 1]])
}
