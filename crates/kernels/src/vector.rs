//! Vectors of the widest kind that the machine has, for kernels that the compiler does not vectorise
//! well by itself.

/// A vector register of f32.
///
/// # Safety
/// Every function may only run where the unit that the vector belongs to was detected, which
/// [`for_vectors`] sees to; pointers have to be good for [`Vector::LANES`] numbers, or as many as said.
pub(crate) trait Vector: Copy {
    const LANES: usize;

    unsafe fn splat(number: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count` numbers; zeros in the other lanes.
    unsafe fn load_part(from: *const f32, count: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// The first `count` lanes.
    unsafe fn store_part(self, to: *mut f32, count: usize);
    unsafe fn add(self, other: Self) -> Self;
    /// self · factor + summand.
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self;
}

/// For every other machine: what the compiler makes of eight numbers.
impl Vector for [f32; 8] {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(number: f32) -> Self {
        [number; 8]
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

    /// AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct Wide(__m512);

    /// AVX2 with FMA.
    #[derive(Clone, Copy)]
    pub(crate) struct Narrow(__m256);

    // SAFETY of all blocks: the unit is there and the pointers are good, says the caller.

    impl Vector for Wide {
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn splat(number: f32) -> Self {
            unsafe { Self(_mm512_set1_ps(number)) }
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
    }

    /// A bit for each of the first `count` of sixteen lanes.
    #[inline(always)]
    fn mask(count: usize) -> __mmask16 {
        ((1u32 << count.min(16)) - 1) as __mmask16
    }

    impl Vector for Narrow {
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn splat(number: f32) -> Self {
            unsafe { Self(_mm256_set1_ps(number)) }
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
            fn body<$vector: $crate::vector::Vector>($($argument: $type),*) $body

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
                match $crate::vector::unit() {
                    // SAFETY: the features that the function is compiled for were detected.
                    $crate::vector::Unit::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    $crate::vector::Unit::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::vector::Unit::Other => {}
                }
            }
            body::<[f32; 8]>($($argument),*)
        }
    };
}

pub(crate) use for_vectors;

/// What this machine computes vectors with.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Avx512,
    Avx2,
    Other,
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn unit() -> Unit {
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("fma")
    {
        return Unit::Avx512;
    }
    match is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        true => Unit::Avx2,
        false => Unit::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// a · b + c in every lane, then the part of a load and of a store that was asked for.
    fn exercise<V: Vector>() {
        let numbers: Vec<f32> = (1..=16).map(|number| number as f32).collect();
        for count in 0..=V::LANES {
            let mut out = [-1.0f32; 16];
            // SAFETY: the caller checked the unit, and all slices hold sixteen numbers.
            unsafe {
                let part = V::load_part(numbers.as_ptr(), count);
                let sum = part.mul_add(V::splat(2.0), V::load(numbers.as_ptr()));
                sum.add(V::splat(0.5)).store_part(out.as_mut_ptr(), count);
            }
            for (lane, &found) in out.iter().enumerate() {
                let number = (lane + 1) as f32;
                let expected = if lane < count {
                    3.0 * number + 0.5
                } else {
                    -1.0
                };
                assert_eq!(found, expected, "lane {lane} of {count}");
            }
            // SAFETY: as above.
            unsafe { V::load_part(numbers.as_ptr(), count).store(out.as_mut_ptr()) };
            assert!(out[count..V::LANES].iter().all(|&lane| lane == 0.0));
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
                if unit() == Unit::Avx512 {
                    wide();
                }
                if unit() != Unit::Other {
                    narrow();
                }
            }
        }
    }
}
