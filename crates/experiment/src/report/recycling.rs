//! Whether recycling helped: an arm beside its control, seed by seed.

use std::fmt;

use eigenmix_data::metrics::lower_is_better;
use serde::{Deserialize, Serialize};

use super::Report;
use crate::spread::Spread;

/// The 97.5 % quantile of Student's t with 1, 2, … degrees of freedom; with more than 30 the last stands, which
/// is on the safe side.
const QUANTILES: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// The difference of an arm and its control in one metric, paired by seed: what a seed draws (examples,
/// head, order) is the same for both and falls out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecyclingEffect {
    pub arm: String,
    pub control: String,
    pub metric: String,
    /// Arm − control, over the seeds that both finished.
    pub difference: Spread,
    pub seeds: usize,
    /// The 95 % interval of the mean difference by Student's t; `None` of a single seed.
    pub interval: Option<[f64; 2]>,
}

impl RecyclingEffect {
    fn of(arm: &str, control: &str, metric: &str, differences: &[f64]) -> Option<Self> {
        let difference = Spread::of_any(differences.iter().copied())?;
        let seeds = differences.len();
        let interval = (seeds > 1).then(|| {
            let quantile = QUANTILES[(seeds - 2).min(QUANTILES.len() - 1)];
            let half = quantile * difference.deviation / (seeds as f64).sqrt();
            [difference.mean - half, difference.mean + half]
        });
        Some(Self {
            arm: arm.to_owned(),
            control: control.to_owned(),
            metric: metric.to_owned(),
            difference,
            seeds,
            interval,
        })
    }

    /// Whether all of the interval says that the arm is better, or worse; `None` where it says neither.
    pub fn helped(&self) -> Option<bool> {
        let [low, high] = self.interval?;
        let sign = match lower_is_better(&self.metric) {
            true => -1.0,
            false => 1.0,
        };
        match (sign * low > 0.0, sign * high > 0.0) {
            (true, true) => Some(true),
            (false, false) if low * high > 0.0 => Some(false),
            _ => None,
        }
    }
}

impl fmt::Display for RecyclingEffect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.helped() {
            Some(true) => "recycling helped",
            Some(false) => "recycling did harm",
            None => "whether recycling helped is not certain",
        };
        write!(
            formatter,
            "{}: {verdict}: {} {:+.4} against the random basis of {}",
            self.arm, self.metric, self.difference.mean, self.control
        )?;
        match self.interval {
            Some([low, high]) => write!(
                formatter,
                " (95 % interval {low:+.4} to {high:+.4}, {} seeds)",
                self.seeds
            ),
            None => write!(formatter, " (one seed, which gives no interval)"),
        }
    }
}

impl Report {
    /// Every arm that has a control beside it, metric by metric.
    pub fn recycling(&self) -> Vec<RecyclingEffect> {
        let mut effects = Vec::new();
        for control in &self.arms {
            let arm = self
                .arms
                .iter()
                .find(|arm| Some(&arm.name) == control.control_of.as_ref());
            let Some(arm) = arm else {
                continue;
            };
            for metric in arm.metrics.keys().filter(|metric| !metric.contains('/')) {
                let own = arm.by_seed.iter();
                let differences: Vec<f64> = own
                    .filter_map(|(seed, values)| {
                        let other = control.by_seed.get(seed)?.get(metric)?.0;
                        Some(values.get(metric)?.0 - other)
                    })
                    .filter(|difference| difference.is_finite())
                    .collect();
                let effect = RecyclingEffect::of(&arm.name, &control.name, metric, &differences);
                effects.extend(effect);
            }
        }
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(metric: &str, differences: &[f64]) -> RecyclingEffect {
        RecyclingEffect::of("mix", "mix-random", metric, differences).expect("differences")
    }

    #[test]
    fn the_interval_is_that_of_a_paired_t_test() {
        // scipy.stats.ttest_1samp([0.02, 0.05, 0.08], 0).confidence_interval(): -0.02452 to 0.12452
        let [low, high] = effect("accuracy", &[0.02, 0.05, 0.08])
            .interval
            .expect("one");
        assert!((low + 0.024_52).abs() < 1e-4 && (high - 0.124_52).abs() < 1e-4);
        assert_eq!(effect("accuracy", &[0.02, 0.05, 0.08]).helped(), None);
        assert_eq!(effect("accuracy", &[0.3]).interval, None);
    }

    #[test]
    fn what_helps_goes_by_the_direction_of_the_metric() {
        let apart = [0.050, 0.051, 0.052];
        let below = apart.map(|value: f64| -value);
        assert_eq!(effect("accuracy", &apart).helped(), Some(true));
        assert_eq!(effect("accuracy", &below).helped(), Some(false));
        assert_eq!(effect("loss", &below).helped(), Some(true));
        assert_eq!(effect("loss", &apart).helped(), Some(false));
        let words = effect("accuracy", &apart).to_string();
        assert!(
            words.starts_with("mix: recycling helped: accuracy +0.0510"),
            "{words}"
        );
    }
}
