//! Vectors of the widest kind that the machine has, for kernels that the compiler does not vectorise
//! well by itself.

use eigenmix_quant::{Lookup, Portable};

/// A vector register of f32.
///
/// # Safety
/// Every function may only run where the unit that the vector belongs to was detected, which
/// [`for_vectors`] ensures; pointers must be valid for [`Vector::LANES`] values, or for the given
/// count.
pub(crate) trait Vector: Copy {
    const LANES: usize;

    /// How this unit looks values up by four-bit codes.
    type Lookup: Lookup;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count` values; zeros in the other lanes.
    unsafe fn load_part(from: *const f32, count: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// The first `count` lanes.
    unsafe fn store_part(self, to: *mut f32, count: usize);
    unsafe fn add(self, other: Self) -> Self;
    /// self · factor + summand.
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self;

    /// Prefetches `count` values into the first-level cache.
    #[inline(always)]
    fn prefetch(_from: *const f32, _count: usize) {}

    /// Writes the columns of a square of `LANES` rows and columns as rows, each row `stride` values
    /// after the previous one.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for row in 0..Self::LANES {
            for col in 0..Self::LANES {
                // SAFETY: the caller's.
                unsafe { *to.add(col * to_stride + row) = *from.add(row * from_stride + col) };
            }
        }
    }
}

/// For all other machines: eight values, vectorised by the compiler.
impl Vector for [f32; 8] {
    const LANES: usize = 8;

    type Lookup = Portable;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; 8]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        unsafe { from.cast::<Self>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; 8];
        // SAFETY: the caller's, and a part is shorter than the whole.
        unsafe { std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count.min(8)) };
        lanes
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        // SAFETY: the caller's, and a part is shorter than the whole.
        unsafe { std::ptr::copy_nonoverlapping(self.as_ptr(), to, count.min(8)) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
        // Without a unit that fuses them, a fused multiplication is a call.
        std::array::from_fn(|lane| self[lane] * factor[lane] + summand[lane])
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use std::arch::x86_64::*;

    use super::Vector;
    use crate::lookups::{NarrowLookup, WideLookup};

    /// AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct Wide(pub __m512);

    /// AVX2 with FMA.
    #[derive(Clone, Copy)]
    pub(crate) struct Narrow(pub __m256);

    // SAFETY of all blocks: the caller guarantees the unit and valid pointers.

    impl Vector for Wide {
        const LANES: usize = 16;

        type Lookup = WideLookup;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Self(_mm512_set1_ps(value)) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm512_loadu_ps(from)) }
        }

        #[inline(always)]
        unsafe fn load_part(from: *const f32, count: usize) -> Self {
            unsafe { Self(_mm512_maskz_loadu_ps(mask(count), from)) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn store_part(self, to: *mut f32, count: usize) {
            unsafe { _mm512_mask_storeu_ps(to, mask(count), self.0) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm512_add_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
            unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, summand.0)) }
        }

        #[inline(always)]
        fn prefetch(from: *const f32, count: usize) {
            prefetch_lines(from, count);
        }

        #[inline(always)]
        unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            unsafe {
                let zero = _mm512_setzero_ps();
                let mut rows = [zero; 16];
                for (row, vector) in rows.iter_mut().enumerate() {
                    *vector = _mm512_loadu_ps(from.add(row * from_stride));
                }
                // Within each part of four lanes: pairs of rows, then fours.
                let mut pairs = [zero; 16];
                for row in (0..16).step_by(2) {
                    pairs[row] = _mm512_unpacklo_ps(rows[row], rows[row + 1]);
                    pairs[row + 1] = _mm512_unpackhi_ps(rows[row], rows[row + 1]);
                }
                let join = |low: __m512, high: __m512| {
                    let (low, high) = (_mm512_castps_pd(low), _mm512_castps_pd(high));
                    let first = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
                    (first, _mm512_castpd_ps(_mm512_unpackhi_pd(low, high)))
                };
                // Column c of part p of the rows 4 g … 4 g + 3 is part p of fours[4 g + c].
                let mut fours = [zero; 16];
                for first in (0..16).step_by(4) {
                    (fours[first], fours[first + 1]) = join(pairs[first], pairs[first + 2]);
                    (fours[first + 2], fours[first + 3]) = join(pairs[first + 1], pairs[first + 3]);
                }
                for col in 0..4 {
                    let [one, two, three, four] = [0, 4, 8, 12].map(|first| fours[first + col]);
                    // Parts 0 and 2, then 1 and 3, of the first and of the second two.
                    let even = [
                        _mm512_shuffle_f32x4::<0x88>(one, two),
                        _mm512_shuffle_f32x4::<0x88>(three, four),
                    ];
                    let odd = [
                        _mm512_shuffle_f32x4::<0xdd>(one, two),
                        _mm512_shuffle_f32x4::<0xdd>(three, four),
                    ];
                    let columns = [
                        _mm512_shuffle_f32x4::<0x88>(even[0], even[1]),
                        _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]),
                        _mm512_shuffle_f32x4::<0xdd>(even[0], even[1]),
                        _mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1]),
                    ];
                    for (part, column) in columns.into_iter().enumerate() {
                        _mm512_storeu_ps(to.add((4 * part + col) * to_stride), column);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn prefetch_lines(from: *const f32, count: usize) {
        for first in (0..count).step_by(16) {
            // SAFETY: a hint, of any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(first).cast()) };
        }
    }

    /// A bit for each of the first `count` of sixteen lanes.
    #[inline(always)]
    fn mask(count: usize) -> __mmask16 {
        ((1u32 << count.min(16)) - 1) as __mmask16
    }

    impl Vector for Narrow {
        const LANES: usize = 8;

        type Lookup = NarrowLookup;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Self(_mm256_set1_ps(value)) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(from)) }
        }

        #[inline(always)]
        unsafe fn load_part(from: *const f32, count: usize) -> Self {
            unsafe { Self(_mm256_maskload_ps(from, mask_of_eight(count))) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm256_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn store_part(self, to: *mut f32, count: usize) {
            unsafe { _mm256_maskstore_ps(to, mask_of_eight(count), self.0) }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm256_add_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, summand.0)) }
        }

        #[inline(always)]
        fn prefetch(from: *const f32, count: usize) {
            prefetch_lines(from, count);
        }

        #[inline(always)]
        unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            unsafe {
                let zero = _mm256_setzero_ps();
                let mut rows = [zero; 8];
                for (row, vector) in rows.iter_mut().enumerate() {
                    *vector = _mm256_loadu_ps(from.add(row * from_stride));
                }
                let mut pairs = [zero; 8];
                for row in (0..8).step_by(2) {
                    pairs[row] = _mm256_unpacklo_ps(rows[row], rows[row + 1]);
                    pairs[row + 1] = _mm256_unpackhi_ps(rows[row], rows[row + 1]);
                }
                let join = |low: __m256, high: __m256| {
                    let (low, high) = (_mm256_castps_pd(low), _mm256_castps_pd(high));
                    let first = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
                    (first, _mm256_castpd_ps(_mm256_unpackhi_pd(low, high)))
                };
                let mut fours = [zero; 8];
                for first in [0, 4] {
                    (fours[first], fours[first + 1]) = join(pairs[first], pairs[first + 2]);
                    (fours[first + 2], fours[first + 3]) = join(pairs[first + 1], pairs[first + 3]);
                }
                for col in 0..4 {
                    let (one, two) = (fours[col], fours[4 + col]);
                    let low = _mm256_permute2f128_ps::<0x20>(one, two);
                    let high = _mm256_permute2f128_ps::<0x31>(one, two);
                    _mm256_storeu_ps(to.add(col * to_stride), low);
                    _mm256_storeu_ps(to.add((4 + col) * to_stride), high);
                }
            }
        }
    }

    /// All bits of each of the first `count` of eight lanes.
    #[inline(always)]
    unsafe fn mask_of_eight(count: usize) -> __m256i {
        unsafe {
            _mm256_cmpgt_epi32(
                _mm256_set1_epi32(count.min(8) as i32),
                _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
            )
        }
    }
}

/// Defines a function over a [`Vector`] type that runs with the widest that the machine has.
///
/// The body is compiled for AVX-512, for AVX2 with FMA and for the baseline, so that its plain loops
/// are vectorised for that unit too.
macro_rules! for_vectors {
    ($(#[$attribute:meta])* fn $name:ident<$vector:ident>($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name($($argument: $type),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<$vector: $crate::codes::Codes>($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512($($argument: $type),*) {
                    body::<$crate::vector::x86::Wide>($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($argument: $type),*) {
                    body::<$crate::vector::x86::Narrow>($($argument),*)
                }
                match $crate::unit::unit() {
                    // SAFETY: the features that the function is compiled for were detected.
                    $crate::unit::Unit::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    $crate::unit::Unit::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::unit::Unit::Other => {}
                }
            }
            body::<[f32; 8]>($($argument),*)
        }
    };
}

pub(crate) use for_vectors;

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "x86_64")]
    use crate::unit::{Unit, detected};

    /// a · b + c in every lane, then the part of a load and of a store that was asked for.
    fn exercise<V: Vector>() {
        let values: Vec<f32> = (1..=16).map(|value| value as f32).collect();
        for count in 0..=V::LANES {
            let mut out = [-1.0f32; 16];
            // SAFETY: the caller checked the unit, and all slices hold sixteen values.
            unsafe {
                let part = V::load_part(values.as_ptr(), count);
                let sum = part.mul_add(V::splat(2.0), V::load(values.as_ptr()));
                sum.add(V::splat(0.5)).store_part(out.as_mut_ptr(), count);
            }
            for (lane, &found) in out.iter().enumerate() {
                let value = (lane + 1) as f32;
                let expected = if lane < count {
                    3.0 * value + 0.5
                } else {
                    -1.0
                };
                assert_eq!(found, expected, "lane {lane} of {count}");
            }
            // SAFETY: as above.
            unsafe { V::load_part(values.as_ptr(), count).store(out.as_mut_ptr()) };
            assert!(out[count..V::LANES].iter().all(|&lane| lane == 0.0));
        }
        let square: Vec<f32> = (0..16 * 17).map(|value| value as f32).collect();
        let mut turned = vec![-1.0; 16 * 18];
        // SAFETY: as above, and both squares are of sixteen rows.
        unsafe { V::transpose(square.as_ptr(), 17, turned.as_mut_ptr(), 18) };
        for row in 0..16 {
            for col in 0..18 {
                let inside = row < V::LANES && col < V::LANES;
                let expected = if inside { square[col * 17 + row] } else { -1.0 };
                assert_eq!(turned[row * 18 + col], expected, "row {row}, column {col}");
            }
        }
    }

    #[test]
    fn every_unit_of_this_machine_computes_and_masks_lanes() {
        exercise::<[f32; 8]>();
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,fma")]
            fn wide() {
                exercise::<x86::Wide>();
            }
            #[target_feature(enable = "avx2,fma")]
            fn narrow() {
                exercise::<x86::Narrow>();
            }
            // SAFETY: the features were just detected.
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
}
