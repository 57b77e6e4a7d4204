//! How a training weighs its targets.

use eigenmix_data::{EncodedTargets, Targets};

use crate::TrainerError;
use crate::tasks::TrainRequest;

/// The weights and the smoothing of a training's loss. That of an evaluation has neither.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelLoss {
    /// `[outputs]`: of classes the weight of their examples, of several labels that of their
    /// positives; `None` where all weigh the same.
    pub weights: Option<Vec<f32>>,
    /// The share of each class that is spread over all, at least 0 and below 1.
    pub smoothing: f64,
}

impl LabelLoss {
    /// The loss that a training asks for.
    ///
    /// - examples: the targets of its split
    ///
    /// # Errors
    /// If the labels have no such weights.
    pub(super) fn new(
        request: &TrainRequest,
        targets: &Targets,
        examples: &EncodedTargets,
    ) -> Result<Self, TrainerError> {
        let weights = request.task.class_weights.as_ref();
        let weights = weights.map(|weights| weights.resolve(targets, examples));
        let weights = weights
            .transpose()
            .map_err(eigenmix_data::DataError::from)?;
        Ok(Self {
            weights: weights
                .map(|weights| weights.into_iter().map(|weight| weight as f32).collect()),
            smoothing: request.label_smoothing,
        })
    }
}
