//! The k-th smallest magnitude of a list that is too long to keep, exactly, in two passes.

/// How many bits of a magnitude the second pass looks at.
const LOW_BITS: u32 = 16;

/// Magnitudes by the upper half of their bits: 1 bit of sign (0), 8 of exponent, 7 of mantissa.
///
/// Non-negative floats are ordered as their bits are as integers, so counting digits sorts them.
#[derive(Clone)]
pub(crate) struct UpperDigits {
    counts: Vec<u64>,
}

/// The place of the sought magnitude after the first pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bracket {
    /// Its upper half.
    upper: u32,
    /// Its order among those with this upper half, counted from 1.
    order: u64,
}

/// Magnitudes within a bracket, by the lower half of their bits.
#[derive(Clone)]
pub(crate) struct LowerDigits {
    bracket: Bracket,
    counts: Vec<u64>,
}

impl UpperDigits {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; 1 << (31 - LOW_BITS)],
        }
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
    }

    pub(crate) fn count(&mut self, values: &[f32]) {
        for value in values {
            self.counts[(value.abs().to_bits() >> LOW_BITS) as usize] += 1;
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        add(&mut self.counts, &other.counts);
    }

    /// Where the `order`-th smallest lies, counted from 1; `None` if there are fewer.
    pub(crate) fn bracket(&self, order: u64) -> Option<Bracket> {
        let (upper, order) = position(&self.counts, order)?;
        Some(Bracket { upper, order })
    }

    /// How many were counted.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl LowerDigits {
    pub(crate) fn new(bracket: Bracket) -> Self {
        Self {
            bracket,
            counts: vec![0; 1 << LOW_BITS],
        }
    }

    pub(crate) fn count(&mut self, values: &[f32]) {
        for value in values {
            let bits = value.abs().to_bits();
            if bits >> LOW_BITS == self.bracket.upper {
                self.counts[(bits & ((1 << LOW_BITS) - 1)) as usize] += 1;
            }
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        add(&mut self.counts, &other.counts);
    }

    /// The sought magnitude; `None` if this pass saw other values than the first.
    pub(crate) fn magnitude(&self) -> Option<f32> {
        let (lower, _) = position(&self.counts, self.bracket.order)?;
        Some(f32::from_bits(self.bracket.upper << LOW_BITS | lower))
    }
}

/// The digit of the `order`-th smallest, and its order among those with that digit.
fn position(counts: &[u64], order: u64) -> Option<(u32, u64)> {
    let mut before = 0;
    let found = counts.iter().position(|&count| {
        before += count;
        before >= order
    })?;
    Some((found as u32, order - (before - counts[found])))
}

fn add(counts: &mut [u64], others: &[u64]) {
    for (count, other) in counts.iter_mut().zip(others) {
        *count += other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    fn selected(values: &[f32], order: u64) -> Option<f32> {
        let mut upper = UpperDigits::new();
        let (first, second) = values.split_at(values.len() / 3);
        upper.count(first);
        let mut others = UpperDigits::new();
        others.count(second);
        upper.add(&others);
        assert_eq!(upper.total(), values.len() as u64);
        let mut lower = LowerDigits::new(upper.bracket(order)?);
        lower.count(values);
        lower.magnitude()
    }

    #[test]
    fn every_order_is_that_of_sorting() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut values: Vec<f32> = (0..500)
            .map(|_| StandardNormal.sample(&mut random))
            .collect();
        values.extend([0.0, -0.0, 1.0, -1.0, 1.0, f32::MIN_POSITIVE / 4.0, -3e38]);
        let mut sorted: Vec<f32> = values.iter().map(|value| value.abs()).collect();
        sorted.sort_by(f32::total_cmp);
        for (index, &expected) in sorted.iter().enumerate() {
            assert_eq!(selected(&values, index as u64 + 1), Some(expected));
        }
        assert_eq!(selected(&values, sorted.len() as u64 + 1), None);
    }

    #[test]
    fn neighbouring_floats_are_distinguished() {
        let values = [1.0, 1.0 + f32::EPSILON, 1.0 - f32::EPSILON / 2.0];
        assert_eq!(selected(&values, 2), Some(1.0));
    }
}
