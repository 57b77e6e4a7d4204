//! Compiling a kernel several times, for the vector units that this machine may have.

/// Defines a function whose body is compiled for AVX-512, for AVX2 with FMA and for the baseline, so that
/// its loops are vectorised; the version for the best unit that the machine has runs.
macro_rules! vectorised {
    ($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        $crate::vector::for_vectors! {
            $(#[$attribute])*
            fn $name<V>($($argument: $type),*) $body
        }
    };
}

pub(crate) use vectorised;

/// eˣ with a relative error below 2e-7, without branches, so that loops over it vectorise.
///
/// x = n · ln 2 + r with |r| ≤ ln 2 / 2; eʳ is a polynomial, 2ⁿ goes into the exponent's bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 · 2²³ rounds to the nearest integer. In between, the lowest bits
    // are that integer: a conversion to i32 would have to check for values that do not fit, one by
    // one.
    const ROUND: f32 = 12_582_912.0;
    const EXPONENT_OF_ONE: u32 = 127;
    let x = x.clamp(-87.3, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let exponent = rounded
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(EXPONENT_OF_ONE);
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    // Taylor's coefficients 1/k!, the last two adjusted for the interval's end.
    let polynomial = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.666_666_5e-1
                    + r * (4.166_579_6e-2
                        + r * (8.333_452e-3 + r * (1.398_199_9e-3 + r * 1.987_569e-4))))));
    polynomial * f32::from_bits(exponent << 23)
}

/// tanh x with an absolute error below 2e-7, without branches.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x.clamp(-20.0, 20.0)) + 1.0)
}

/// σ(x) = 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Σ term(i) for i in 0..count, in sixteen running sums, so that the loop vectorises.
#[inline(always)]
pub(crate) fn sum(count: usize, term: impl Fn(usize) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let whole = count / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    let tail: f32 = (whole..count).map(term).sum();
    sums.iter().sum::<f32>() + tail
}

/// Σ left[i] · right[i], in 64 running sums. Blocks of a length that the compiler knows need no
/// bounds checks, which keep it from vectorising [`sum`] over two slices.
#[inline(always)]
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    const LANES: usize = 64;
    let mut sums = [0.0f32; LANES];
    let (left, right) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest = left.remainder().iter().zip(right.remainder());
    let tail: f32 = rest.map(|(left, right)| left * right).sum();
    for (left, right) in left.zip(right) {
        for lane in 0..LANES {
            sums[lane] = left[lane].mul_add(right[lane], sums[lane]);
        }
    }
    total_of_lanes(sums) + tail
}

/// Σ row[i], in 64 running sums.
#[inline(always)]
pub(crate) fn total(row: &[f32]) -> f32 {
    const LANES: usize = 64;
    let mut sums = [0.0f32; LANES];
    let blocks = row.chunks_exact(LANES);
    let tail: f32 = blocks.remainder().iter().sum();
    for block in blocks {
        for lane in 0..LANES {
            sums[lane] += block[lane];
        }
    }
    total_of_lanes(sums) + tail
}

/// Half of them at a time, which vectorises.
#[inline(always)]
fn total_of_lanes<const LANES: usize>(mut sums: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_and_total_count_every_number_once() {
        for count in [0, 1, 63, 64, 65, 128, 200] {
            let left: Vec<f32> = (0..count).map(|index| index as f32).collect();
            let right: Vec<f32> = (0..count).map(|index| (index % 3) as f32).collect();
            let expected: usize = (0..count).map(|index| index * (index % 3)).sum();
            // Integers this small are exact in f32.
            assert_eq!(dot(&left, &right), expected as f32);
            assert_eq!(total(&left), (0..count).sum::<usize>() as f32);
        }
    }

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for step in -8700..8800 {
            let x = step as f32 * 0.01;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (found / expected - 1.0).abs() < 4e-7,
                "exp({x}): {found} against {expected}"
            );
        }
    }

    #[test]
    fn tanh_and_sigmoid_agree_with_the_standard_library() {
        for step in -3000..3000 {
            let x = step as f32 * 0.01;
            let exact = f64::from(x);
            assert!(
                (f64::from(tanh(x)) - exact.tanh()).abs() < 2e-7,
                "tanh({x})"
            );
            let expected = 1.0 / (1.0 + (-exact).exp());
            assert!((f64::from(sigmoid(x)) - expected).abs() < 2e-7, "σ({x})");
        }
    }

    #[test]
    fn sum_counts_every_term_once() {
        for count in [0, 1, 15, 16, 17, 100] {
            assert_eq!(
                sum(count, |index| index as f32),
                (0..count).sum::<usize>() as f32
            );
        }
    }
}
