//! Metrics of logits.

use std::collections::BTreeMap;

use eigenmix_data::EncodedTargets;
use eigenmix_data::metrics::{
    LabelFigures, LabelSetMetrics, Metric, Predictions, evaluate, predicted_classes,
};

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
        EncodedTargets::Labels {
            outputs: expected,
            threshold,
        } => {
            let predicted = threshold.labels_of(logits, outputs);
            evaluate(
                metrics,
                Predictions::LabelSets {
                    predicted: &predicted,
                    expected,
                    labels: outputs,
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

/// Precision, recall and F1 of each label where an example may have several; otherwise nothing.
///
/// # Errors
/// If there are no examples.
pub(super) fn figures_by_label(
    logits: &[f32],
    outputs: usize,
    targets: &EncodedTargets,
) -> Result<Vec<LabelFigures>, TrainerError> {
    let EncodedTargets::Labels {
        outputs: expected,
        threshold,
    } = targets
    else {
        return Ok(Vec::new());
    };
    let predicted = threshold.labels_of(logits, outputs);
    Ok(LabelSetMetrics::new(&predicted, expected, outputs)?.by_label())
}
