//! Values looked up by four-bit codes, with AVX-512 and with AVX2.

use std::arch::x86_64::*;

use eigenmix_quant::Lookup;

/// AVX-512. A permutation takes the lowest four bits of an index, so codes need no mask.
#[derive(Clone, Copy)]
pub(crate) struct WideLookup;

/// AVX2.
#[derive(Clone, Copy)]
pub(crate) struct NarrowLookup;

// SAFETY of all blocks: the caller guarantees the unit, and arrays are as long as they say.

impl Lookup for WideLookup {
    #[inline(always)]
    unsafe fn halves(
        table: &[f32; 16],
        scale: f32,
        offset: Option<f32>,
        codes: &[u8; 16],
        values: &mut [f32; 32],
    ) {
        unsafe {
            let mut table = Self::scaled(table, scale);
            if let Some(offset) = offset {
                table = _mm512_add_ps(table, _mm512_set1_ps(offset));
            }
            let (low, high) = Self::of_halves(table, codes);
            _mm512_storeu_ps(values.as_mut_ptr(), low);
            _mm512_storeu_ps(values.as_mut_ptr().add(16), high);
        }
    }

    #[inline(always)]
    unsafe fn pairs(table: &[f32; 16], scale: f32, codes: &[u8; 16], values: &mut [f32; 32]) {
        unsafe {
            let (low, high) = Self::of_halves(Self::scaled(table, scale), codes);
            let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
            let pairs = |index| _mm512_permutex2var_ps(high, index, low);
            _mm512_storeu_ps(values.as_mut_ptr(), pairs(first));
            _mm512_storeu_ps(values.as_mut_ptr().add(16), pairs(second));
        }
    }
}

impl WideLookup {
    #[inline(always)]
    unsafe fn scaled(table: &[f32; 16], scale: f32) -> __m512 {
        unsafe { _mm512_mul_ps(_mm512_loadu_ps(table.as_ptr()), _mm512_set1_ps(scale)) }
    }

    /// The values of the low halves, and of the high ones.
    #[inline(always)]
    unsafe fn of_halves(table: __m512, codes: &[u8; 16]) -> (__m512, __m512) {
        unsafe {
            let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.as_ptr().cast()));
            let high = _mm512_srli_epi32::<4>(codes);
            (
                _mm512_permutexvar_ps(codes, table),
                _mm512_permutexvar_ps(high, table),
            )
        }
    }
}

impl Lookup for NarrowLookup {
    #[inline(always)]
    unsafe fn halves(
        table: &[f32; 16],
        scale: f32,
        offset: Option<f32>,
        codes: &[u8; 16],
        values: &mut [f32; 32],
    ) {
        unsafe {
            let mut table = Self::scaled(table, scale);
            if let Some(offset) = offset {
                table = table.map(|half| _mm256_add_ps(half, _mm256_set1_ps(offset)));
            }
            let to = values.as_mut_ptr();
            for first in [0, 8] {
                let (low, high) = Self::of_halves(table, codes.as_ptr().add(first));
                _mm256_storeu_ps(to.add(first), low);
                _mm256_storeu_ps(to.add(first + 16), high);
            }
        }
    }

    #[inline(always)]
    unsafe fn pairs(table: &[f32; 16], scale: f32, codes: &[u8; 16], values: &mut [f32; 32]) {
        unsafe {
            let table = Self::scaled(table, scale);
            for first in [0, 8] {
                let (low, high) = Self::of_halves(table, codes.as_ptr().add(first));
                let (even, odd) = (_mm256_unpacklo_ps(high, low), _mm256_unpackhi_ps(high, low));
                let to = values.as_mut_ptr().add(2 * first);
                _mm256_storeu_ps(to, _mm256_permute2f128_ps::<0x20>(even, odd));
                _mm256_storeu_ps(to.add(8), _mm256_permute2f128_ps::<0x31>(even, odd));
            }
        }
    }
}

impl NarrowLookup {
    /// The first half of the table, and the second.
    #[inline(always)]
    unsafe fn scaled(table: &[f32; 16], scale: f32) -> [__m256; 2] {
        unsafe {
            let (scale, table) = (_mm256_set1_ps(scale), table.as_ptr());
            [
                _mm256_mul_ps(_mm256_loadu_ps(table), scale),
                _mm256_mul_ps(_mm256_loadu_ps(table.add(8)), scale),
            ]
        }
    }

    /// The values of the low halves of eight bytes, and of the high ones.
    #[inline(always)]
    unsafe fn of_halves([first, second]: [__m256; 2], codes: *const u8) -> (__m256, __m256) {
        unsafe {
            let codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(codes.cast()));
            // A permutation takes the lowest three bits; the fourth chooses between the halves of
            // the table, from where a blend reads it: the sign.
            let look = |index: __m256i| {
                let is_second = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index));
                _mm256_blendv_ps(
                    _mm256_permutevar8x32_ps(first, index),
                    _mm256_permutevar8x32_ps(second, index),
                    is_second,
                )
            };
            (look(codes), look(_mm256_srli_epi32::<4>(codes)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use eigenmix_quant::Portable;

    use super::*;
    use crate::unit::{Unit, detected};

    /// Every code in every place.
    fn look_up<L: Lookup>() {
        // Opaque, as those of a file are: of constants LLVM 22.1 multiplies one value twice in the portable
        // code, where it joins equal lookups of an unrolled loop into vectors.
        let table: [f32; 16] = black_box(std::array::from_fn(|index| index as f32 * 1.5 - 3.0));
        for offset in 0..16 {
            let codes = black_box(std::array::from_fn(|index| {
                ((index * 37 + offset * 16 + index / 3) % 256) as u8
            }));
            let (mut found, mut expected) = ([0.0; 32], [0.0; 32]);
            // SAFETY: the caller checked the unit.
            unsafe {
                for offset in [None, Some(0.7)] {
                    L::halves(&table, 0.3, offset, &codes, &mut found);
                    Portable::halves(&table, 0.3, offset, &codes, &mut expected);
                    assert_eq!(found, expected);
                }
                L::pairs(&table, 0.3, &codes, &mut found);
                Portable::pairs(&table, 0.3, &codes, &mut expected);
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn every_unit_of_this_machine_looks_up_what_the_portable_code_does() {
        #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,fma")]
        fn wide() {
            look_up::<WideLookup>();
        }
        #[target_feature(enable = "avx2,fma")]
        fn narrow() {
            look_up::<NarrowLookup>();
        }
        // SAFETY: the features are detected before.
        unsafe {
            if detected() == Unit::Avx512 {
                wide();
            }
            if detected() != Unit::Other {
                narrow();
            }
        }
    }
}
