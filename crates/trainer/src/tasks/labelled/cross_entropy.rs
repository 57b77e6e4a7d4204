//! Cross-entropy of classes, with weights and label smoothing.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use super::label_loss::LabelLoss;

/// The loss of PyTorch's `CrossEntropyLoss(weight=w, label_smoothing=ε)` over k classes:
///
/// ```text
/// Σ_n [(1 − ε) · w[y_n] · −log p_n[y_n] + ε/k · Σ_c w[c] · −log p_n[c]] / Σ_n w[y_n]
/// ```
///
/// - logits: `[examples, classes]`
/// - classes: `[examples]`
pub(super) fn cross_entropy(
    logits: Tensor<2>,
    classes: &[i32],
    loss: &LabelLoss,
    device: &Device,
) -> Tensor<1> {
    let log_probabilities = activation::log_softmax(logits, 1);
    if *loss == LabelLoss::default() {
        let classes = TensorData::new(classes.to_vec(), [classes.len(), 1]);
        let classes = Tensor::<2, Int>::from_data(classes, device);
        return -log_probabilities.gather(1, classes).mean();
    }
    let [examples, outputs] = log_probabilities.dims();
    let weight = |class: usize| match &loss.weights {
        Some(weights) => f64::from(weights[class]),
        None => 1.0,
    };
    let total = total_weight(classes, loss);
    let mut shares = Vec::with_capacity(examples * outputs);
    for &class in classes {
        for output in 0..outputs {
            let spread = loss.smoothing / outputs as f64;
            let own = match output == class as usize {
                true => 1.0 - loss.smoothing,
                false => 0.0,
            };
            shares.push(((own + spread) * weight(output) / total) as f32);
        }
    }
    let shares = TensorData::new(shares, [examples, outputs]);
    -(log_probabilities * Tensor::<2>::from_data(shares, device)).sum()
}

/// Σ_n w[y_n], by which the loss is divided.
pub(super) fn total_weight(classes: &[i32], loss: &LabelLoss) -> f64 {
    match &loss.weights {
        Some(weights) => classes
            .iter()
            .map(|&class| f64::from(weights[class as usize]))
            .sum(),
        None => classes.len() as f64,
    }
}

#[cfg(test)]
mod tests {
    //! Expected values: torch 2.15.0, made by `losses_reference.py` beside this file.

    use super::*;

    const LOGITS: [f32; 12] = [
        0.5, -1.0, 2.0, 0.25, 0.75, -0.5, 1.5, 0.0, -2.0, -0.25, 3.0, 0.125,
    ];
    const CLASSES: [i32; 4] = [2, 0, 1, 0];
    const WEIGHTS: [f32; 3] = [0.5, 3.0, 1.25];

    /// Weights, smoothing, loss, and its gradient by the logits.
    type Reference = (Option<[f32; 3]>, f64, f64, [f64; 12]);

    #[rustfmt::skip]
    const REFERENCE: [Reference; 4] = [
        (None, 0.0, 1.611_555_9, [
            0.043_822_598, 0.009_778_143, -0.053_600_743, -0.169_899_72, 0.132_063_03, 0.037_836_693,
            0.199_469, -0.205_492_45, 0.006_023_441_4, -0.241_148_98, 0.228_270_81, 0.012_878_157,
        ]),
        (Some(WEIGHTS), 0.0, 1.470_209_6, [
            0.041_735_809, 0.009_312_517, -0.051_048_327, -0.064_723_7, 0.050_309_729, 0.014_413_979,
            0.455_929_16, -0.469_697_06, 0.013_767_866, -0.091_866_277, 0.086_960_308, 0.004_905_964_7,
        ]),
        (None, 0.1, 1.625_097_6, [
            0.035_489_265, 0.001_444_809_1, -0.036_934_078, -0.153_233_05, 0.123_729_7, 0.029_503_36,
            0.191_135_66, -0.188_825_79, -0.002_309_892_3, -0.224_482_31, 0.219_937_47, 0.004_544_823_4,
        ]),
        (Some(WEIGHTS), 0.2, 1.574_114_6, [
            0.037_612_513, -0.028_286_058, -0.009_326_450_5, -0.038_802_385, 0.034_015_369, 0.004_787_019_9,
            0.406_519_98, -0.403_114_56, -0.003_405_448_5, -0.077_706_757, 0.086_547_874, -0.008_841_133_7,
        ]),
    ];

    fn loss_and_gradient(classes: &[i32], logits: &[f32], loss: &LabelLoss) -> (f32, Vec<f32>) {
        let device = Device::flex().autodiff();
        let logits = TensorData::new(logits.to_vec(), [classes.len(), 3]);
        let logits = Tensor::<2>::from_data(logits, &device).require_grad();
        let found = cross_entropy(logits.clone(), classes, loss, &device);
        let gradients = found.backward();
        let gradient = logits.grad(&gradients).expect("a gradient").into_data();
        (
            found.into_scalar::<f32>(),
            gradient.try_to_vec().expect("numbers"),
        )
    }

    fn weighing(weights: Option<[f32; 3]>, smoothing: f64) -> LabelLoss {
        LabelLoss {
            weights: weights.map(|weights| weights.to_vec()),
            smoothing,
        }
    }

    #[test]
    fn loss_and_gradient_are_those_of_pytorch() {
        for (weights, smoothing, expected, slope) in REFERENCE {
            let loss = weighing(weights, smoothing);
            let (found, gradient) = loss_and_gradient(&CLASSES, &LOGITS, &loss);
            let found = f64::from(found);
            assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
            for (found, expected) in gradient.iter().zip(slope) {
                let difference = f64::from(*found) - expected;
                assert!(difference.abs() < 1e-6, "{gradient:?}");
            }
        }
    }

    #[test]
    fn batches_that_are_weighed_by_their_targets_are_one_batch() {
        let loss = weighing(Some(WEIGHTS), 0.2);
        let (whole, slope) = loss_and_gradient(&CLASSES, &LOGITS, &loss);
        let total = total_weight(&CLASSES, &loss);
        let (mut sum, mut slopes) = (0.0, Vec::new());
        for (classes, logits) in [(&CLASSES[..1], &LOGITS[..3]), (&CLASSES[1..], &LOGITS[3..])] {
            let share = (total_weight(classes, &loss) / total) as f32;
            let (found, gradient) = loss_and_gradient(classes, logits, &loss);
            sum += share * found;
            slopes.extend(gradient.into_iter().map(|slope| share * slope));
        }
        assert!((sum - whole).abs() < 1e-6, "{sum} is not {whole}");
        for (found, expected) in slopes.iter().zip(slope) {
            assert!((found - expected).abs() < 1e-6, "{slopes:?}");
        }
    }
}
