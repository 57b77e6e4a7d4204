//! Vectors of small integers: the codes of quantised weights, on their way to f32.

use eigenmix_quant::widened;

use crate::vector::Vector;

/// A vector unit that unpacks codes.
///
/// # Safety
/// As for [`Vector`]; pointers must be valid for [`Vector::LANES`] bytes.
pub(crate) trait Codes: Vector {
    /// As many integers of 32 bits as there are lanes.
    type Integers: Copy;
    /// Sixteen values to choose from.
    type Table: Copy;

    /// A half-precision number in every lane, by its bits.
    unsafe fn splat_half(bits: u16) -> Self;
    unsafe fn table(values: &[f32; 16]) -> Self::Table;
    /// Bytes without a sign.
    unsafe fn bytes(from: *const u8) -> Self::Integers;
    /// Bytes with a sign, as numbers.
    unsafe fn signed(from: *const u8) -> Self;
    unsafe fn shift_right<const BITS: u32>(integers: Self::Integers) -> Self::Integers;
    unsafe fn shift_left<const BITS: u32>(integers: Self::Integers) -> Self::Integers;
    unsafe fn and(integers: Self::Integers, mask: i32) -> Self::Integers;
    unsafe fn or(one: Self::Integers, other: Self::Integers) -> Self::Integers;
    unsafe fn number(integers: Self::Integers) -> Self;
    /// The values that the lowest four bits choose.
    unsafe fn look_up(table: Self::Table, integers: Self::Integers) -> Self;
    /// The sum of all lanes.
    unsafe fn total(self) -> f32;
}

impl Codes for [f32; 8] {
    type Integers = [i32; 8];
    type Table = [f32; 16];

    #[inline(always)]
    unsafe fn splat_half(bits: u16) -> Self {
        [widened(bits); 8]
    }

    #[inline(always)]
    unsafe fn table(values: &[f32; 16]) -> Self::Table {
        *values
    }

    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Integers {
        // SAFETY: the caller's.
        let bytes = unsafe { from.cast::<[u8; 8]>().read_unaligned() };
        bytes.map(i32::from)
    }

    #[inline(always)]
    unsafe fn signed(from: *const u8) -> Self {
        // SAFETY: the caller's.
        let bytes = unsafe { from.cast::<[i8; 8]>().read_unaligned() };
        bytes.map(f32::from)
    }

    #[inline(always)]
    unsafe fn shift_right<const BITS: u32>(integers: Self::Integers) -> Self::Integers {
        integers.map(|integer| integer >> BITS)
    }

    #[inline(always)]
    unsafe fn shift_left<const BITS: u32>(integers: Self::Integers) -> Self::Integers {
        integers.map(|integer| integer << BITS)
    }

    #[inline(always)]
    unsafe fn and(integers: Self::Integers, mask: i32) -> Self::Integers {
        integers.map(|integer| integer & mask)
    }

    #[inline(always)]
    unsafe fn or(one: Self::Integers, other: Self::Integers) -> Self::Integers {
        std::array::from_fn(|lane| one[lane] | other[lane])
    }

    #[inline(always)]
    unsafe fn number(integers: Self::Integers) -> Self {
        integers.map(|integer| integer as f32)
    }

    #[inline(always)]
    unsafe fn look_up(table: Self::Table, integers: Self::Integers) -> Self {
        integers.map(|integer| table[(integer & 15) as usize])
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        self.iter().sum()
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use eigenmix_quant::widened;

    use super::Codes;
    use crate::vector::x86::{Narrow, Wide};

    // SAFETY of all blocks: the caller guarantees the unit and valid pointers.

    impl Codes for Wide {
        type Integers = __m512i;
        type Table = __m512;

        #[inline(always)]
        unsafe fn splat_half(bits: u16) -> Self {
            unsafe { Self(_mm512_cvtph_ps(_mm256_set1_epi16(bits.cast_signed()))) }
        }

        #[inline(always)]
        unsafe fn table(values: &[f32; 16]) -> Self::Table {
            unsafe { _mm512_loadu_ps(values.as_ptr()) }
        }

        #[inline(always)]
        unsafe fn bytes(from: *const u8) -> Self::Integers {
            unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())) }
        }

        #[inline(always)]
        unsafe fn signed(from: *const u8) -> Self {
            unsafe {
                let bytes = _mm_loadu_si128(from.cast());
                Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)))
            }
        }

        #[inline(always)]
        unsafe fn shift_right<const BITS: u32>(integers: Self::Integers) -> Self::Integers {
            unsafe { _mm512_srli_epi32::<BITS>(integers) }
        }

        #[inline(always)]
        unsafe fn shift_left<const BITS: u32>(integers: Self::Integers) -> Self::Integers {
            unsafe { _mm512_slli_epi32::<BITS>(integers) }
        }

        #[inline(always)]
        unsafe fn and(integers: Self::Integers, mask: i32) -> Self::Integers {
            unsafe { _mm512_and_si512(integers, _mm512_set1_epi32(mask)) }
        }

        #[inline(always)]
        unsafe fn or(one: Self::Integers, other: Self::Integers) -> Self::Integers {
            unsafe { _mm512_or_si512(one, other) }
        }

        #[inline(always)]
        unsafe fn number(integers: Self::Integers) -> Self {
            unsafe { Self(_mm512_cvtepi32_ps(integers)) }
        }

        #[inline(always)]
        unsafe fn look_up(table: Self::Table, integers: Self::Integers) -> Self {
            unsafe { Self(_mm512_permutexvar_ps(integers, table)) }
        }

        #[inline(always)]
        unsafe fn total(self) -> f32 {
            unsafe { _mm512_reduce_add_ps(self.0) }
        }
    }

    impl Codes for Narrow {
        type Integers = __m256i;
        type Table = (__m256, __m256);

        #[inline(always)]
        unsafe fn splat_half(bits: u16) -> Self {
            unsafe { Self(_mm256_set1_ps(widened(bits))) }
        }

        #[inline(always)]
        unsafe fn table(values: &[f32; 16]) -> Self::Table {
            unsafe {
                let values = values.as_ptr();
                (_mm256_loadu_ps(values), _mm256_loadu_ps(values.add(8)))
            }
        }

        #[inline(always)]
        unsafe fn bytes(from: *const u8) -> Self::Integers {
            unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())) }
        }

        #[inline(always)]
        unsafe fn signed(from: *const u8) -> Self {
            unsafe {
                let bytes = _mm_loadl_epi64(from.cast());
                Self(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)))
            }
        }

        #[inline(always)]
        unsafe fn shift_right<const BITS: u32>(integers: Self::Integers) -> Self::Integers {
            unsafe { _mm256_srl_epi32(integers, _mm_cvtsi32_si128(BITS as i32)) }
        }

        #[inline(always)]
        unsafe fn shift_left<const BITS: u32>(integers: Self::Integers) -> Self::Integers {
            unsafe { _mm256_sll_epi32(integers, _mm_cvtsi32_si128(BITS as i32)) }
        }

        #[inline(always)]
        unsafe fn and(integers: Self::Integers, mask: i32) -> Self::Integers {
            unsafe { _mm256_and_si256(integers, _mm256_set1_epi32(mask)) }
        }

        #[inline(always)]
        unsafe fn or(one: Self::Integers, other: Self::Integers) -> Self::Integers {
            unsafe { _mm256_or_si256(one, other) }
        }

        #[inline(always)]
        unsafe fn number(integers: Self::Integers) -> Self {
            unsafe { Self(_mm256_cvtepi32_ps(integers)) }
        }

        #[inline(always)]
        unsafe fn look_up((first, second): Self::Table, integers: Self::Integers) -> Self {
            unsafe {
                // As in `NarrowLookup`.
                let is_second = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(integers));
                Self(_mm256_blendv_ps(
                    _mm256_permutevar8x32_ps(first, integers),
                    _mm256_permutevar8x32_ps(second, integers),
                    is_second,
                ))
            }
        }

        #[inline(always)]
        unsafe fn total(self) -> f32 {
            unsafe {
                let halves = _mm_add_ps(
                    _mm256_castps256_ps128(self.0),
                    _mm256_extractf128_ps::<1>(self.0),
                );
                let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
                _mm_cvtss_f32(_mm_add_ss(pairs, _mm_shuffle_ps::<1>(pairs, pairs)))
            }
        }
    }
}
