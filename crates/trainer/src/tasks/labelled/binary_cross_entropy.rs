//! Binary cross-entropy of labels of which an example may have several.

use burn::tensor::{Device, Tensor, TensorData, activation};

/// The loss of PyTorch's `BCEWithLogitsLoss(pos_weight=w)`: with y = 1 where a label applies and σ the
/// logistic function, the mean over examples and labels of
///
/// ```text
/// −w · y · log σ(x) − (1 − y) · log σ(−x)
/// ```
///
/// - logits: `[examples, labels]`
/// - applying: `[examples]`, the labels of each
/// - weights: `[labels]`, those of the positives; `None` where they are 1
pub(super) fn binary_cross_entropy(
    logits: Tensor<2>,
    applying: &[Vec<usize>],
    weights: Option<&[f32]>,
    device: &Device,
) -> Tensor<1> {
    let [examples, labels] = logits.dims();
    let count = examples * labels;
    let one = 1.0 / count as f32;
    let mut positive = vec![0.0; count];
    let mut negative = vec![one; count];
    for (example, applying) in applying.iter().enumerate() {
        for &label in applying {
            let weight = weights.map_or(1.0, |weights| weights[label]);
            positive[example * labels + label] = weight * one;
            negative[example * labels + label] = 0.0;
        }
    }
    let shares =
        |values| Tensor::<2>::from_data(TensorData::new(values, [examples, labels]), device);
    let of_positives = activation::log_sigmoid(logits.clone()) * shares(positive);
    let of_negatives = activation::log_sigmoid(-logits) * shares(negative);
    -(of_positives + of_negatives).sum()
}

#[cfg(test)]
mod tests {
    //! Expected values: torch 2.15.0, made by `losses_reference.py` beside this file.

    use super::*;

    const LOGITS: [f32; 6] = [0.5, -1.0, 2.0, 0.25, -30.0, 0.0];

    /// Weights, loss, and its gradient by the logits.
    #[rustfmt::skip]
    const REFERENCE: [(Option<[f32; 3]>, f64, [f64; 6]); 2] = [
        (None, 5.405_559, [
            -0.062_923_439, 0.044_823_572, -0.019_867_161, 0.093_696_088, -0.166_666_67, 0.083_333_336,
        ]),
        (Some([2.0, 0.5, 3.0]), 3.026_881, [
            -0.125_846_88, 0.044_823_572, -0.059_601_467, 0.093_696_088, -0.083_333_336, 0.083_333_336,
        ]),
    ];

    #[test]
    fn loss_and_gradient_are_those_of_pytorch() {
        let device = Device::flex().autodiff();
        for (weights, expected, slope) in REFERENCE {
            let logits = TensorData::new(LOGITS.to_vec(), [2, 3]);
            let logits = Tensor::<2>::from_data(logits, &device).require_grad();
            let applying = [vec![0, 2], vec![1]];
            let weights = weights.as_ref().map(|weights| &weights[..]);
            let found = binary_cross_entropy(logits.clone(), &applying, weights, &device);
            let gradients = found.backward();
            let found = f64::from(found.into_scalar::<f32>());
            // The logit −30 gives a loss of 30, of which f32 has six digits.
            assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
            let gradient = logits.grad(&gradients).expect("a gradient").into_data();
            let gradient: Vec<f32> = gradient.try_to_vec().expect("numbers");
            for (found, expected) in gradient.iter().zip(slope) {
                let difference = f64::from(*found) - expected;
                assert!(difference.abs() < 1e-6, "{gradient:?}");
            }
        }
    }
}
