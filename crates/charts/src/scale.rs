//! From values to positions, and the round values that are worth a label.

/// Maps values onto px.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    is_log: bool,
    /// The smallest and the largest value; never equal.
    domain: [f64; 2],
    /// Where these two lie, in px.
    range: [f64; 2],
}

impl Scale {
    /// A scale over all finite `values` (of a logarithmic one: all positive), widened to round
    /// numbers; over 0 to 1 if there are none, over powers of ten around a single one.
    pub(crate) fn over(
        values: impl IntoIterator<Item = f64>,
        is_log: bool,
        range: [f64; 2],
    ) -> Self {
        let usable = values.into_iter().filter(|&value| fits(value, is_log));
        let extent = usable.fold(None, |extent: Option<[f64; 2]>, value| match extent {
            None => Some([value, value]),
            Some([low, high]) => Some([value.min(low), value.max(high)]),
        });
        let domain = match (extent, is_log) {
            (None, false) => [0.0, 1.0],
            (None, true) => [1.0, 10.0],
            (Some(extent), true) => log_domain(extent),
            (Some(extent), false) => linear_domain(extent),
        };
        Self {
            is_log,
            domain,
            range,
        }
    }

    /// A linear scale over exactly this domain.
    pub(crate) fn exactly(domain: [f64; 2], range: [f64; 2]) -> Self {
        let [low, high] = domain;
        let domain = match low < high && low.is_finite() && high.is_finite() {
            true => domain,
            false => linear_domain([if low.is_finite() { low } else { 0.0 }; 2]),
        };
        Self {
            is_log: false,
            domain,
            range,
        }
    }

    /// Where `value` lies in px; `None` if it has no place, such as NaN or log 0. What lies outside
    /// the domain is put on its border.
    pub(crate) fn position(&self, value: f64) -> Option<f64> {
        if !fits(value, self.is_log) {
            return None;
        }
        let [low, high] = self.domain;
        let share = match self.is_log {
            true => (value / low).ln() / (high / low).ln(),
            false => value / (high - low) - low / (high - low),
        };
        let [from, to] = self.range;
        Some(from + share.clamp(0.0, 1.0) * (to - from))
    }

    /// The smallest and the largest value.
    pub(crate) fn domain(&self) -> [f64; 2] {
        self.domain
    }

    /// Round values, at most about `count`, with at least two.
    pub(crate) fn ticks(&self, count: usize) -> Vec<f64> {
        let [low, high] = self.domain;
        match self.is_log {
            true => log_ticks(low, high, count),
            false => linear_ticks(low, high, count),
        }
    }
}

fn fits(value: f64, is_log: bool) -> bool {
    value.is_finite() && (!is_log || value > 0.0)
}

/// Five or so steps of 1, 2, 2.5 or 5 times a power of ten, and the domain widened to whole steps.
fn linear_domain([low, high]: [f64; 2]) -> [f64; 2] {
    // A span of rounding errors would make ticks that read the same.
    if high - low <= 1e-9 * low.abs().max(high.abs()) {
        let room = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
        return linear_domain([low - room, high + room]);
    }
    let step = step(high - low, 5);
    let widened = [(low / step).floor() * step, (high / step).ceil() * step];
    match widened.iter().all(|end| end.is_finite()) {
        true => widened,
        false => [low, high],
    }
}

fn log_domain([low, high]: [f64; 2]) -> [f64; 2] {
    let exponents = [low.log10().floor(), high.log10().ceil()];
    let exponents = match exponents[0] < exponents[1] {
        true => exponents,
        false => [exponents[0] - 1.0, exponents[1] + 1.0],
    };
    exponents.map(|exponent| 10f64.powf(exponent.clamp(-300.0, 300.0)))
}

/// The smallest round step of which at most `count` cover `span`.
fn step(span: f64, count: usize) -> f64 {
    let rough = (span / count.max(1) as f64).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0, 10.0];
    let enough = factors.iter().find(|&&factor| factor * power >= rough);
    enough.unwrap_or(&10.0) * power
}

fn linear_ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let step = step(high - low, count);
    let first = (low / step - 1e-9).ceil();
    let last = (high / step + 1e-9).floor();
    let steps = (last - first).clamp(0.0, 1000.0) as usize;
    (0..=steps)
        .map(|index| (first + index as f64) * step)
        .collect()
}

/// Powers of ten, thinned to `count`; with 2 and 5 times them where there are few.
fn log_ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let (first, last) = (low.log10().round() as i32, high.log10().round() as i32);
    let decades = (last - first).max(1) as usize;
    if 3 * decades < count {
        let ticks = (first..=last)
            .flat_map(|exponent| [1.0, 2.0, 5.0].map(|factor| factor * 10f64.powi(exponent)));
        return ticks.filter(|tick| *tick <= high * 1.0001).collect();
    }
    let every = decades.div_ceil(count.max(1));
    (first..=last)
        .step_by(every)
        .map(|exponent| 10f64.powi(exponent))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let scale = Scale::over([0.13, 0.87], false, [0.0, 100.0]);
        let ticks = scale.ticks(5);
        assert_eq!(ticks.len(), 6);
        for (tick, expected) in ticks.iter().zip([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]) {
            assert!((tick - expected).abs() < 1e-12, "{ticks:?}");
        }
        assert!((scale.position(0.5).expect("a place") - 50.0).abs() < 1e-9);
    }

    #[test]
    fn a_logarithmic_scale_puts_the_geometric_mean_in_the_middle() {
        let scale = Scale::over([10.0, 1000.0], true, [0.0, 100.0]);
        assert!((scale.position(100.0).expect("a place") - 50.0).abs() < 1e-9);
        assert_eq!(scale.position(0.0), None);
        assert_eq!(scale.position(-1.0), None);
        assert_eq!(scale.ticks(4), [10.0, 100.0, 1000.0]);
        let many = Scale::over([1e-9, 1e12], true, [0.0, 1.0]).ticks(5);
        assert!(many.len() <= 6, "{many:?}");
    }

    #[test]
    fn no_values_one_value_and_impossible_values_have_a_scale_too() {
        let inputs: [&[f64]; 6] = [
            &[],
            &[5.0],
            &[0.0, 0.0],
            &[f64::NAN, f64::INFINITY],
            &[1.0, 1.0 + 1e-15],
            &[-f64::MAX, f64::MAX],
        ];
        for values in inputs {
            for is_log in [false, true] {
                let scale = Scale::over(values.iter().copied(), is_log, [0.0, 100.0]);
                let ticks = scale.ticks(5);
                assert!((1..=1001).contains(&ticks.len()), "{values:?}");
                for &value in values {
                    if let Some(position) = scale.position(value) {
                        assert!((0.0..=100.0).contains(&position), "{values:?}");
                    }
                }
            }
        }
        let middle = Scale::over([5.0], false, [0.0, 100.0]).position(5.0);
        assert!((middle.expect("a place") - 50.0).abs() < 1e-9);
    }
}
