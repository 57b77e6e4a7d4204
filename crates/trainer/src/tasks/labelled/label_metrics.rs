//! Metrics of logits.

use std::collections::BTreeMap;

use eigenmix_data::EncodedTargets;
use eigenmix_data::metrics::{Metric, Predictions, evaluate, predicted_classes};

use crate::TrainerError;

/// The metrics of logits `[examples, outputs]` against targets, by name.
///
/// # Errors
/// If a metric does not fit the task.
pub fn label_metrics(
    metrics: &[Metric],
    logits: &[f32],
    outputs: usize,
    targets: &EncodedTargets,
) -> Result<BTreeMap<String, f64>, TrainerError> {
    Ok(match targets {
        EncodedTargets::Classes(expected) => {
            let predicted = predicted_classes(logits, outputs);
            evaluate(
                metrics,
                Predictions::Classes {
                    predicted: &predicted,
                    expected,
                    classes: outputs,
                },
            )?
        }
        EncodedTargets::Values(expected) => {
            let predicted: Vec<f64> = logits.iter().map(|&logit| f64::from(logit)).collect();
            evaluate(
                metrics,
                Predictions::Values {
                    predicted: &predicted,
                    expected,
                },
            )?
        }
    })
}
