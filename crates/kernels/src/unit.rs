//! The vector unit of this machine: detected here, for every kernel.

/// The vector units that a machine may have, the widest first.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// AVX-512 F, DQ, VL and BW, with FMA.
    Avx512,
    /// AVX2 with FMA.
    Avx2,
    Other,
}

/// The features of a unit. Kernels are compiled for all of a unit's features, so a unit that lacks
/// one of them must not run them.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
struct Features {
    /// All four of them.
    avx512: bool,
    avx2: bool,
    fma: bool,
}

#[cfg(target_arch = "x86_64")]
impl Unit {
    #[inline(always)]
    fn of(features: Features) -> Self {
        match features {
            Features {
                avx512: true,
                fma: true,
                ..
            } => Self::Avx512,
            Features {
                avx2: true,
                fma: true,
                ..
            } => Self::Avx2,
            _ => Self::Other,
        }
    }
}

/// The unit that kernels run on.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn unit() -> Unit {
    #[cfg(test)]
    if tests::HAS_NO_AVX512.load(std::sync::atomic::Ordering::Relaxed) {
        return detected().max(Unit::Avx2);
    }
    detected()
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn detected() -> Unit {
    Unit::of(Features {
        avx512: is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw"),
        avx2: is_x86_feature_detected!("avx2"),
        fma: is_x86_feature_detected!("fma"),
    })
}

/// Whether this machine has vectors that are used here explicitly.
pub(crate) fn has_vectors() -> bool {
    #[cfg(target_arch = "x86_64")]
    return unit() != Unit::Other;
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    /// Whether kernels run as on a machine without AVX-512.
    pub(super) static HAS_NO_AVX512: AtomicBool = AtomicBool::new(false);

    /// Who may change the unit, or rely on its staying the same.
    static UNIT: Mutex<()> = Mutex::new(());

    /// For as long as it lives, no test changes the unit. Tests that do not hold it may run meanwhile on
    /// any unit; they must pass on all.
    pub(crate) struct SameUnit {
        _held: MutexGuard<'static, ()>,
    }

    impl SameUnit {
        /// That of the machine.
        pub(crate) fn of_machine() -> Self {
            let held = UNIT.lock().unwrap_or_else(PoisonError::into_inner);
            Self { _held: held }
        }

        /// As if the machine had no AVX-512.
        pub(crate) fn without_avx512() -> Self {
            let unit = Self::of_machine();
            HAS_NO_AVX512.store(true, Ordering::Relaxed);
            unit
        }
    }

    impl Drop for SameUnit {
        fn drop(&mut self) {
            HAS_NO_AVX512.store(false, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_machine_without_fma_computes_without_vector_units() {
        for avx512 in [false, true] {
            for avx2 in [false, true] {
                let of = |fma| Unit::of(Features { avx512, avx2, fma });
                assert_eq!(of(false), Unit::Other);
                let expected = match (avx512, avx2) {
                    (true, _) => Unit::Avx512,
                    (false, true) => Unit::Avx2,
                    (false, false) => Unit::Other,
                };
                assert_eq!(of(true), expected);
            }
        }
    }
}
