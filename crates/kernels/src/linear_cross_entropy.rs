//! A frozen linear layer and the cross-entropy of its logits in one, for vocabularies whose logits
//! are larger than the rest of a step.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Int, Shape, Tensor, TensorData, activation};
use rayon::prelude::*;

use crate::backward::Differentiable;
use crate::buffer::{Unwritten, tensor, values_of};
use crate::chunked_cross_entropy::ChunkedCrossEntropy;
use crate::composition::compose;
use crate::product::{MatrixView, Start};
use crate::row_product::Target;
use crate::simd::{exp, tanh, total, vectorised};
use crate::stored_weight::StoredWeight;
use crate::{Weight, has_kernels};

/// How many logits exist at a time: 32 MiB. Each product rearranges the whole weight, which is too
/// expensive for a few rows.
const LOGITS: usize = 8 * 1024 * 1024;

/// The mean over the rows of `−log softmax(hidden · Wᵀ)[target]`; with a softcap c, the logits x are
/// c · tanh(x / c). With a label smoothing ε the target is a distribution, as in PyTorch's
/// `CrossEntropyLoss(label_smoothing=ε)` (arXiv 1512.00567, section 7):
///
/// ```text
/// (1 − ε) · −log p[target] + ε / vocabulary · Σ_v −log p[v]
/// ```
///
/// On the CPU the logits exist a few rows at a time, and the gradient of `hidden` is found with
/// them, so that nothing as wide as the vocabulary is kept. The kernel computes no gradient of the
/// weight; if it is trained, composed operations run.
///
/// # Shapes
/// - hidden: `[rows, d_model]`, at least one row
/// - weight: `[vocabulary, d_model]`
/// - targets: `[rows]`, below `vocabulary`
/// - smoothing: ε, at least 0 and below 1
/// - output: `[1]`
///
/// # Panics
/// If there are no rows, or more or fewer targets than rows.
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    weight: &Weight,
    targets: &[i32],
    softcap: Option<f32>,
    smoothing: f32,
) -> Tensor<1> {
    let [rows, _] = hidden.dims();
    assert!(rows > 0 && rows == targets.len(), "a target for each row");
    if weight.is_tracked() {
        return composed(hidden, weight, targets, softcap, smoothing);
    }
    let device = hidden.device().inner();
    if !has_kernels(&device) {
        let weight = weight.on_device();
        let loss = ChunkedCrossEntropy::new(weight, targets, softcap, smoothing, &device);
        return compose(vec![hidden], loss).reshape([1]);
    }
    Tensor::from_dispatch(Dispatch::fused_linear_cross_entropy(
        hidden.into_dispatch(),
        weight.stored(),
        TokenTargets {
            targets: targets.into(),
            softcap,
            smoothing,
        },
    ))
}

fn composed(
    hidden: Tensor<2>,
    weight: &Weight,
    targets: &[i32],
    softcap: Option<f32>,
    smoothing: f32,
) -> Tensor<1> {
    let mut logits = weight.composed_product(hidden);
    if let Some(cap) = softcap {
        logits = (logits / cap).tanh() * cap;
    }
    smoothed_cross_entropy(logits, targets, smoothing)
}

/// The same of logits that exist already.
///
/// # Shapes
/// - logits: `[rows, outputs]`
/// - targets: `[rows]`, below `outputs`
/// - output: `[1]`
pub fn smoothed_cross_entropy(logits: Tensor<2>, targets: &[i32], smoothing: f32) -> Tensor<1> {
    let device = logits.device();
    let targets = TensorData::new(targets.to_vec(), [targets.len(), 1]);
    let targets = Tensor::<2, Int>::from_data(targets, &device);
    let log_probabilities = activation::log_softmax(logits, 1);
    if smoothing == 0.0 {
        return -log_probabilities.gather(1, targets).mean();
    }
    let of_targets = log_probabilities.clone().gather(1, targets).mean();
    -(of_targets * (1.0 - smoothing) + log_probabilities.mean() * smoothing)
}

/// The target tokens, how logits are capped, and how much of a target is spread over all tokens.
#[derive(Clone, Debug)]
pub(crate) struct TokenTargets {
    targets: Arc<[i32]>,
    softcap: Option<f32>,
    smoothing: f32,
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait LinearCrossEntropy: Backend {
    fn fused_linear_cross_entropy(
        hidden: FloatTensor<Self>,
        #[extension_type] weight: StoredWeight<Self>,
        targets: TokenTargets,
    ) -> FloatTensor<Self>;
}

pub(crate) trait LinearCrossEntropyGradient: Backend {
    /// The loss, and its gradient by `hidden`.
    fn fused_linear_cross_entropy_gradient(
        hidden: FloatTensor<Self>,
        weight: StoredWeight<Self>,
        targets: TokenTargets,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl LinearCrossEntropy for Flex {
    fn fused_linear_cross_entropy(
        hidden: FlexTensor,
        weight: StoredWeight<Self>,
        targets: TokenTargets,
    ) -> FlexTensor {
        let hidden = hidden.to_contiguous();
        loss_in_chunks(&hidden, &weight, &targets, |_, _| ())
    }
}

impl LinearCrossEntropyGradient for Flex {
    fn fused_linear_cross_entropy_gradient(
        hidden: FlexTensor,
        weight: StoredWeight<Self>,
        targets: TokenTargets,
    ) -> (FlexTensor, FlexTensor) {
        let hidden = hidden.to_contiguous();
        let [rows, d_model] = [hidden.layout().shape()[0], hidden.layout().shape()[1]];
        let [vocabulary, _] = weight.dims();
        let mut gradient = Unwritten::new(rows * d_model);
        let values = gradient.as_mut_ptr();
        let loss = loss_in_chunks(&hidden, &weight, &targets, |start, d_logits| {
            let count = d_logits.len() / vocabulary;
            assert!(start + count <= rows, "gradients of {rows} rows");
            let target = Target {
                values: values.wrapping_add(start * d_model),
                row_stride: d_model,
                accumulate: false,
            };
            let d_logits = MatrixView::rows(d_logits, count, vocabulary, vocabulary);
            // SAFETY: the gradient was just measured.
            unsafe { weight.input_gradient(d_logits, target) };
        });
        // SAFETY: every row was visited.
        (loss, unsafe { gradient.into_tensor([rows, d_model]) })
    }
}

/// The mean loss; `visit` gets the gradient by the logits of a few rows, from row `start` on, until
/// it has got those of every row.
///
/// - hidden: `[rows, d_model]`, contiguous
/// - weight: `[vocabulary, d_model]`
fn loss_in_chunks(
    hidden: &FlexTensor,
    weight: &StoredWeight<Flex>,
    targets: &TokenTargets,
    mut visit: impl FnMut(usize, &[f32]),
) -> FlexTensor {
    let [rows, d_model] = [hidden.layout().shape()[0], hidden.layout().shape()[1]];
    let [vocabulary, _] = weight.dims();
    let chunk = (LOGITS / vocabulary).clamp(1, rows);
    let mut memory = Unwritten::new(chunk * vocabulary);
    let mut total = 0.0;
    for start in (0..rows).step_by(chunk) {
        let count = chunk.min(rows - start);
        let hidden = MatrixView::rows(
            &values_of(hidden)[start * d_model..],
            count,
            d_model,
            d_model,
        );
        let target = Target {
            values: memory.as_mut_ptr(),
            row_stride: vocabulary,
            accumulate: false,
        };
        // SAFETY: the memory has room for `count` rows, which the product writes.
        let logits = unsafe {
            weight.product(hidden, target, Start::default());
            memory.first(count * vocabulary)
        };
        let targets_here = &targets.targets[start..start + count];
        total += logits
            .par_chunks_exact_mut(vocabulary)
            .zip(targets_here)
            .map(|(logits, &target)| {
                let mut loss = 0.0;
                let TokenTargets {
                    softcap, smoothing, ..
                } = *targets;
                loss_and_slope(logits, target as usize, softcap, smoothing, rows, &mut loss);
                loss
            })
            // In order, so that the sum is the same on any number of threads.
            .collect::<Vec<f64>>()
            .into_iter()
            .sum::<f64>();
        visit(start, logits);
    }
    tensor(vec![(total / rows as f64) as f32], [1])
}

vectorised! {
    /// One row's loss, and in place of its logits their gradient of the mean over `rows`.
    fn loss_and_slope(
        logits: &mut [f32],
        target: usize,
        softcap: Option<f32>,
        smoothing: f32,
        rows: usize,
        loss: &mut f64,
    ) {
        if let Some(cap) = softcap {
            for logit in logits.iter_mut() {
                *logit = cap * tanh(*logit / cap);
            }
        }
        let largest = logits
            .iter()
            .fold(f32::NEG_INFINITY, |largest, &logit| largest.max(logit));
        let target_logit = logits[target];
        let slope_of_target = softcap.map_or(1.0, |cap| 1.0 - (target_logit / cap).powi(2));
        let capped_by = softcap.map(|cap| (cap, logits.to_vec()));
        let vocabulary = logits.len() as f32;
        let mean = match smoothing == 0.0 {
            true => 0.0,
            false => total(logits) / vocabulary,
        };
        for logit in logits.iter_mut() {
            *logit = exp(*logit - largest);
        }
        let total = total(logits);
        *loss = f64::from(total).ln() - f64::from(target_logit - largest);
        let inverse = 1.0 / (total * rows as f32);
        for logit in logits.iter_mut() {
            *logit *= inverse;
        }
        if smoothing != 0.0 {
            // −log p[v] = ln Σ e^x − x[v]: the sum over the distribution is linear in the logits.
            *loss += f64::from(smoothing) * f64::from(target_logit - mean);
            let everywhere = smoothing / (vocabulary * rows as f32);
            for logit in logits.iter_mut() {
                *logit -= everywhere;
            }
        }
        if let Some((cap, capped)) = capped_by {
            for (logit, capped) in logits.iter_mut().zip(&capped) {
                let ratio = capped / cap;
                *logit *= 1.0 - ratio * ratio;
            }
        }
        logits[target] -= (1.0 - smoothing) * slope_of_target / rows as f32;
    }
}

impl<B: LinearCrossEntropy + LinearCrossEntropyGradient, C: CheckpointStrategy> LinearCrossEntropy
    for Autodiff<B, C>
{
    fn fused_linear_cross_entropy(
        hidden: FloatTensor<Self>,
        weight: StoredWeight<Self>,
        targets: TokenTargets,
    ) -> FloatTensor<Self> {
        let weight = weight.into_inner();
        Self::differentiable(
            [hidden],
            |[hidden], is_tracked| match is_tracked {
                // What is kept is the gradient by `hidden`, for a gradient of one of the loss.
                true => {
                    let (loss, slope) =
                        B::fused_linear_cross_entropy_gradient(hidden, weight, targets);
                    (loss, Some(slope))
                }
                false => (B::fused_linear_cross_entropy(hidden, weight, targets), None),
            },
            |slope, gradient, _| {
                let gradient = B::float_reshape(gradient, Shape::from([1, 1]));
                vec![slope.map(|slope| B::float_mul(slope, gradient))]
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrozenWeight;
    use crate::waves::of_size_two as values;
    use burn::tensor::Device;

    #[test]
    fn loss_and_gradient_agree_with_the_composed_operation() {
        let device = Device::flex().autodiff();
        // The second needs three chunks.
        for (rows, d_model, vocabulary) in [(7, 5, 11), (200, 3, 100_003)] {
            for (softcap, smoothing) in
                [(None, 0.0), (Some(1.5), 0.0), (None, 0.1), (Some(1.5), 0.3)]
            {
                let weight = values(vocabulary, d_model, 1.0, &device);
                let weight = Weight::Frozen(FrozenWeight::from(weight));
                let targets: Vec<i32> = (0..rows).map(|i| (i * 37 % vocabulary) as i32).collect();
                type Operation = fn(Tensor<2>, &Weight, &[i32], Option<f32>, f32) -> Tensor<1>;
                let run = |operation: Operation| {
                    let hidden = values(rows, d_model, 0.0, &device).require_grad();
                    let loss =
                        operation(hidden.clone(), &weight, &targets, softcap, smoothing) * 3.0;
                    let gradients = loss.backward();
                    (loss.into_scalar::<f32>(), hidden.grad(&gradients).unwrap())
                };
                let (loss, gradient) = run(linear_cross_entropy);
                let (expected, slope) = run(composed);
                assert!(
                    (loss - expected).abs() < 1e-5 * expected,
                    "{loss} {expected}"
                );
                let largest = slope.clone().abs().max().into_scalar::<f32>();
                let difference = (gradient - slope).abs().max().into_scalar::<f32>();
                // The sums over the vocabulary are f32 in both.
                assert!(difference < 1e-4 * largest, "{difference} of {largest}");
            }
        }
    }

    const LOSS: f32 = 1.170_143_1;
    const GRADIENT: [f32; 8] = [
        0.064_617_395,
        0.004_707_217,
        -0.116_883_78,
        0.047_559_09,
        -0.376_885_8,
        0.006_603_103_6,
        -0.000_913_382,
        0.371_196_03,
    ];

    #[test]
    fn a_smoothed_loss_and_its_gradient_are_those_of_pytorch() {
        // torch 2.15.0: x = torch.tensor([[0.5, -1.0, 2.0, 0.25], [1.5, 0.0, -0.5, 3.0]],
        // requires_grad=True); loss = F.cross_entropy(x, torch.tensor([2, 0]), label_smoothing=0.1)
        let device = Device::flex().autodiff();
        let logits = [0.5f32, -1.0, 2.0, 0.25, 1.5, 0.0, -0.5, 3.0];
        let identity: Vec<f32> = (0..16).map(|i| f32::from(i % 5 == 0)).collect();
        let identity = Tensor::<2>::from_data(TensorData::new(identity, [4, 4]), &device);
        let weight = Weight::Frozen(FrozenWeight::from(identity));
        let logits = TensorData::new(logits.to_vec(), [2, 4]);
        let logits = Tensor::<2>::from_data(logits, &device).require_grad();
        let loss = linear_cross_entropy(logits.clone(), &weight, &[2, 0], None, 0.1);
        let gradients = loss.backward();
        let found = loss.into_scalar::<f32>();
        assert!((found - LOSS).abs() < 1e-6, "{found}");
        let gradient = logits.grad(&gradients).unwrap().into_data();
        let gradient: Vec<f32> = gradient.try_to_vec().unwrap();
        for (found, expected) in gradient.iter().zip(GRADIENT) {
            assert!((found - expected).abs() < 1e-6, "{gradient:?}");
        }
    }

    #[test]
    fn without_a_graph_the_loss_is_the_same() {
        let device = Device::flex();
        let hidden = values(9, 4, 0.0, &device);
        let weight = Weight::Frozen(FrozenWeight::from(values(13, 4, 1.0, &device)));
        let targets = [0, 3, 12, 5, 5, 1, 7, 2, 11];
        let found = linear_cross_entropy(hidden.clone(), &weight, &targets, None, 0.1);
        let expected = composed(hidden, &weight, &targets, None, 0.1);
        let difference = (found - expected).abs().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }
}
