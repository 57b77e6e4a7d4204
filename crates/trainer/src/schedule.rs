//! The learning rate over the steps of a training.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How the learning rate changes after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduler {
    /// Constant.
    Constant,
    /// Linearly to zero at the last step.
    #[default]
    Linear,
    /// Along half a cosine to zero at the last step.
    Cosine,
    /// Constant, and reduced whenever evaluations stop improving (`training.plateau`).
    ReduceOnPlateau,
}

impl Scheduler {
    /// The learning rate of optimizer step `step`, counted from 0:
    ///
    /// - warm-up: base · step / warmup_steps
    /// - linear:  base · (total_steps − step) / (total_steps − warmup_steps)
    /// - cosine:  base · (1 + cos(π · (step − warmup_steps) / (total_steps − warmup_steps))) / 2
    ///
    /// These are the values of transformers' `get_…_schedule_with_warmup`; with a warm-up the first
    /// step has rate 0. For `ReduceOnPlateau` multiply by [`PlateauState::factor`].
    pub fn learning_rate(
        self,
        step: usize,
        total_steps: usize,
        base: f64,
        warmup_steps: usize,
    ) -> f64 {
        if step < warmup_steps {
            return base * step as f64 / warmup_steps as f64;
        }
        let decay_steps = total_steps.saturating_sub(warmup_steps).max(1) as f64;
        let scale = match self {
            Self::Constant | Self::ReduceOnPlateau => 1.0,
            Self::Linear => total_steps.saturating_sub(step) as f64 / decay_steps,
            Self::Cosine => {
                // Past the last step the cosine would rise again.
                let progress = ((step - warmup_steps) as f64 / decay_steps).min(1.0);
                0.5 * (1.0 + (PI * progress).cos())
            }
        };
        base * scale
    }
}

/// For how many steps the learning rate rises before it follows its schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warmup {
    /// A share of all steps, in [0, 1].
    Ratio(f64),
    Steps(usize),
}

/// Invalid settings of a schedule.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ScheduleError {
    #[error("`training.warmup_ratio` is {found}, expected a number from 0 to 1")]
    WarmupRatio { found: f64 },

    #[error("both `training.warmup_ratio` and `training.warmup_steps` are set; leave one out")]
    TwoWarmups,

    #[error("`training.plateau.factor` is {found}, expected a number between 0 and 1")]
    PlateauFactor { found: f64 },

    #[error("`training.plateau.threshold` is {found}, expected at least 0 and below 1")]
    PlateauThreshold { found: f64 },
}

impl ScheduleError {
    /// The key of the configuration that the error is about.
    pub fn key(&self) -> &'static str {
        match self {
            Self::WarmupRatio { .. } => "training.warmup_ratio",
            Self::TwoWarmups => "training.warmup_steps",
            Self::PlateauFactor { .. } => "training.plateau.factor",
            Self::PlateauThreshold { .. } => "training.plateau.threshold",
        }
    }
}

impl Warmup {
    /// The warm-up that a configuration with two optional keys asks for; none by default.
    ///
    /// # Errors
    /// When both are set, or the ratio is not between 0 and 1.
    pub fn from_options(ratio: Option<f64>, steps: Option<usize>) -> Result<Self, ScheduleError> {
        match (ratio, steps) {
            (Some(_), Some(_)) => Err(ScheduleError::TwoWarmups),
            (Some(found), None) if !(0.0..=1.0).contains(&found) => {
                Err(ScheduleError::WarmupRatio { found })
            }
            (Some(ratio), None) => Ok(Self::Ratio(ratio)),
            (None, steps) => Ok(Self::Steps(steps.unwrap_or(0))),
        }
    }

    /// The steps of the warm-up, ⌈ratio · total_steps⌉ as in transformers.
    pub fn steps(self, total_steps: usize) -> usize {
        match self {
            Self::Ratio(ratio) => (ratio * total_steps as f64).ceil() as usize,
            Self::Steps(steps) => steps,
        }
    }
}

/// When and by how much `reduce-on-plateau` lowers the learning rate; PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PlateauConfig {
    /// The factor that the rate is multiplied by, between 0 and 1.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub factor: f64,
    /// How many evaluations without improvement to tolerate before the rate is lowered.
    pub patience: usize,
    /// An improvement must exceed this share of the best value.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub threshold: f64,
}

impl Default for PlateauConfig {
    fn default() -> Self {
        Self {
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
        }
    }
}

impl PlateauConfig {
    /// # Errors
    /// When the factor would not lower the rate, or no value could ever be an improvement.
    pub fn validate(&self) -> Result<(), ScheduleError> {
        if !(self.factor > 0.0 && self.factor < 1.0) {
            return Err(ScheduleError::PlateauFactor { found: self.factor });
        }
        if !(0.0..1.0).contains(&self.threshold) {
            return Err(ScheduleError::PlateauThreshold {
                found: self.threshold,
            });
        }
        Ok(())
    }
}

/// What `ReduceOnPlateau` remembers between evaluations; it is kept in checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlateauState {
    /// The best value so far; `None` before the first that is not NaN.
    pub best: Option<f64>,
    /// Evaluations without improvement since the best one or the last reduction.
    pub bad: usize,
    /// The current factor on the rate of the schedule.
    pub factor: f64,
}

impl Default for PlateauState {
    fn default() -> Self {
        Self {
            best: None,
            bad: 0,
            factor: 1.0,
        }
    }
}

impl PlateauState {
    /// Takes in an evaluation; returns whether it lowered the rate.
    ///
    /// The rule is that of torch's `ReduceLROnPlateau` with a relative threshold, except that the
    /// threshold is relative to |best|: with torch's formula every repetition of a negative value
    /// counts as an improvement. A NaN is not an improvement.
    pub fn update(&mut self, value: f64, higher_is_better: bool, config: &PlateauConfig) -> bool {
        let improved = match self.best {
            None => !value.is_nan(),
            Some(best) if higher_is_better => value > best + config.threshold * best.abs(),
            Some(best) => value < best - config.threshold * best.abs(),
        };
        if improved {
            self.best = Some(value);
            self.bad = 0;
            return false;
        }
        self.bad += 1;
        if self.bad <= config.patience {
            return false;
        }
        self.factor *= config.factor;
        self.bad = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [usize; 8] = [0, 1, 2, 3, 7, 10, 16, 17];

    #[track_caller]
    fn assert_close(found: f64, expected: f64) {
        // A handful of f64 operations on values of at most 4e-3.
        assert!(
            (found - expected).abs() < 1e-17,
            "{found} is not {expected}"
        );
    }

    /// Expected rates: transformers 5.23.0, 4e-3 times
    /// `_get_…_schedule_with_warmup_lr_lambda(step, num_warmup_steps=3, num_training_steps=17)`,
    /// with `num_cycles=0.5` for the cosine.
    #[test]
    fn rates_agree_with_transformers() {
        let expected = [
            (
                Scheduler::Linear,
                [0.002857142857142857, 0.002, 0.0002857142857142857, 0.0],
            ),
            (
                Scheduler::Cosine,
                [0.003246979603717467, 0.002, 5.0144175636352765e-05, 0.0],
            ),
            (Scheduler::Constant, [0.004; 4]),
            (Scheduler::ReduceOnPlateau, [0.004; 4]),
        ];
        let warmup = [0.0, 0.0013333333333333333, 0.0026666666666666666, 0.004];
        for (scheduler, decay) in expected {
            for (step, rate) in STEPS.into_iter().zip(warmup.into_iter().chain(decay)) {
                assert_close(scheduler.learning_rate(step, 17, 4e-3, 3), rate);
            }
        }
    }

    #[test]
    fn without_a_warm_up_the_first_step_has_the_full_rate() {
        for scheduler in [Scheduler::Linear, Scheduler::Cosine, Scheduler::Constant] {
            assert_close(scheduler.learning_rate(0, 9, 4e-3, 0), 4e-3);
        }
    }

    #[test]
    fn past_the_last_step_the_rate_stays_at_zero() {
        for scheduler in [Scheduler::Linear, Scheduler::Cosine] {
            assert_close(scheduler.learning_rate(25, 17, 4e-3, 3), 0.0);
        }
    }

    #[test]
    fn a_warm_up_longer_than_the_training_only_rises() {
        let rates: Vec<f64> = (0..5)
            .map(|step| Scheduler::Linear.learning_rate(step, 5, 1.0, 20))
            .collect();
        assert_eq!(rates, [0.0, 0.05, 0.1, 0.15, 0.2]);
    }

    #[test]
    fn a_warm_up_is_a_ratio_or_a_number_of_steps() {
        let steps =
            |ratio, steps| Warmup::from_options(ratio, steps).map(|warmup| warmup.steps(101));
        assert_eq!(steps(Some(0.06), None), Ok(7), "6.06 is rounded up");
        assert_eq!(steps(None, Some(30)), Ok(30));
        assert_eq!(steps(None, None), Ok(0));
        assert_eq!(steps(Some(0.1), Some(3)), Err(ScheduleError::TwoWarmups));
        assert_eq!(
            steps(Some(6.0), None),
            Err(ScheduleError::WarmupRatio { found: 6.0 })
        );
        assert!(steps(Some(f64::NAN), None).is_err());
    }

    /// Feeds values and returns (factor, bad, best) after each.
    fn follow(
        values: &[f64],
        higher_is_better: bool,
        config: PlateauConfig,
    ) -> Vec<(f64, usize, f64)> {
        let mut state = PlateauState::default();
        let mut followed = Vec::new();
        for value in values {
            state.update(*value, higher_is_better, &config);
            followed.push((state.factor, state.bad, state.best.unwrap()));
        }
        followed
    }

    /// Expected: torch 2.9.1 `ReduceLROnPlateau(optimizer with lr 1.0, mode, factor, patience)`,
    /// after each `step(value)`: the rate, `num_bad_epochs`, `best`.
    #[test]
    fn plateaus_agree_with_torch() {
        let config = PlateauConfig {
            factor: 0.5,
            patience: 2,
            ..PlateauConfig::default()
        };
        let values = [0.5, 0.6, 0.60003, 0.6, 0.59, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7];
        let expected = [
            (1.0, 0, 0.5),
            (1.0, 0, 0.6),
            (1.0, 1, 0.6),
            (1.0, 2, 0.6),
            (0.5, 0, 0.6),
            (0.5, 0, 0.7),
            (0.5, 1, 0.7),
            (0.5, 2, 0.7),
            (0.25, 0, 0.7),
            (0.25, 1, 0.7),
            (0.25, 2, 0.7),
        ];
        assert_eq!(follow(&values, true, config), expected);

        let config = PlateauConfig {
            patience: 1,
            ..PlateauConfig::default()
        };
        let values = [1.0, 0.9, 0.8999, 0.89985, 0.95, 0.95, 0.95, 0.8];
        let expected = [
            (1.0, 0, 1.0),
            (1.0, 0, 0.9),
            (1.0, 0, 0.8999),
            (1.0, 1, 0.8999),
            (0.1, 0, 0.8999),
            (0.1, 1, 0.8999),
            (0.010000000000000002, 0, 0.8999),
            (0.010000000000000002, 0, 0.8),
        ];
        assert_eq!(follow(&values, false, config), expected);
    }

    #[test]
    fn a_negative_value_that_stays_the_same_is_not_an_improvement() {
        let config = PlateauConfig {
            patience: 1,
            ..PlateauConfig::default()
        };
        let followed = follow(&[-0.2, -0.2, -0.2], true, config);
        assert_eq!(followed[2], (0.1, 0, -0.2));
    }

    #[test]
    fn nan_metrics_count_as_no_improvement() {
        let mut state = PlateauState::default();
        let config = PlateauConfig::default();
        state.update(f64::NAN, false, &config);
        assert_eq!((state.best, state.bad), (None, 1));
        state.update(3.0, false, &config);
        state.update(f64::NAN, false, &config);
        assert_eq!((state.best, state.bad), (Some(3.0), 1));
    }

    #[test]
    fn the_state_survives_a_checkpoint_before_and_after_an_evaluation() {
        let mut state = PlateauState::default();
        for _ in 0..2 {
            let written = serde_json::to_string(&state).unwrap();
            assert_eq!(
                serde_json::from_str::<PlateauState>(&written).unwrap(),
                state
            );
            state.update(0.1 + 0.2, true, &PlateauConfig::default());
        }
    }

    #[test]
    fn schedules_are_configured_by_name() {
        for (scheduler, name) in [
            (Scheduler::Constant, "constant"),
            (Scheduler::Linear, "linear"),
            (Scheduler::Cosine, "cosine"),
            (Scheduler::ReduceOnPlateau, "reduce-on-plateau"),
        ] {
            assert_eq!(serde_json::to_value(scheduler).unwrap(), name);
            assert_eq!(
                serde_json::from_value::<Scheduler>(name.into()).unwrap(),
                scheduler
            );
        }
        let config: PlateauConfig = toml::from_str("patience = 3").unwrap();
        assert_eq!((config.patience, config.factor), (3, 0.1));
    }

    #[test]
    fn a_factor_that_does_not_lower_the_rate_is_refused() {
        for factor in [0.0, 1.0, 10.0, f64::NAN] {
            let config = PlateauConfig {
                factor,
                ..PlateauConfig::default()
            };
            assert!(config.validate().is_err(), "{factor}");
        }
        let config = PlateauConfig {
            threshold: 1.0,
            ..PlateauConfig::default()
        };
        assert!(config.validate().is_err());
        assert!(PlateauConfig::default().validate().is_ok());
    }
}
