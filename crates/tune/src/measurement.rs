//! One measurement of a candidate: which rows are trained on and which are measured.

use std::fmt;

use eigenmix_data::Fold;
use eigenmix_trainer::schedule::Scheduler;
use eigenmix_trainer::{Keep, TrainConfig};

/// What a candidate is trained and measured on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Measurement {
    /// Without a fold of the training rows, on that fold.
    Fold {
        fold: Fold,
        /// How many folds there are.
        count: usize,
    },
    /// With a share of the training rows, on the validation split.
    Share {
        /// 1 over this.
        part: usize,
        /// How many training rows there are.
        rows: usize,
    },
}

impl Measurement {
    /// Every fold of `count`, and then every one of one fold less, which parts the rows differently:
    /// another seed would also draw other examples where only a few of each class are drawn.
    pub fn folds(count: usize) -> impl Iterator<Item = Self> {
        let counts = [count, count - 1].into_iter().filter(|count| *count > 1);
        counts.flat_map(|count| Fold::all(count).map(move |fold| Self::Fold { fold, count }))
    }

    /// The cost of it, in trainings on all rows.
    pub fn cost(self) -> f64 {
        match self {
            Self::Fold { count, .. } => 1.0 - 1.0 / count as f64,
            Self::Share { part, .. } => 1.0 / part as f64,
        }
    }

    /// The training to measure.
    pub fn of(self, mut config: TrainConfig) -> TrainConfig {
        let training = &mut config.training;
        training.evaluate_test = false;
        training.save_every = None;
        training.tensorboard = false;
        let goes_by_validation = training.early_stopping.is_some()
            || training.keep != Keep::Last
            || training.scheduler == Scheduler::ReduceOnPlateau;
        if !goes_by_validation {
            training.evaluate_every = 0;
        }
        match self {
            Self::Fold { fold, .. } => config.data.fold = Some(fold),
            Self::Share { part: 1, .. } => {}
            Self::Share { part, rows } => config.data.max_examples = Some(rows.div_ceil(part)),
        }
        config
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fold { fold, .. } => write!(formatter, "fold {fold}"),
            Self::Share { part: 1, .. } => formatter.write_str("all rows"),
            Self::Share { part, .. } => write!(formatter, "1/{part} of the rows"),
        }
    }
}
