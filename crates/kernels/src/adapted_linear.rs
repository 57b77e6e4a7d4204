//! Frozen linear layers with updates of low rank on top, in one pass.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use crate::adapted_linear_rows as rows;
use crate::backward::Differentiable;
use crate::composed_linear::ComposedLinear;
use crate::composition::compose;
use crate::stored_weight::{StoredWeight, WeightList};
use crate::tensor_list::TensorList;
use crate::{Weight, has_kernels};

/// A frozen linear layer: x · Wᵀ + b + s · (x · R) · Lᵀ.
#[derive(Clone, Debug)]
pub struct AdaptedLayer<'a> {
    /// W `[d_out, d_in]`.
    pub weight: &'a Weight,
    /// b `[d_out]`.
    pub bias: Option<Tensor<1>>,
    pub update: Option<LowRankFactors>,
}

/// An update s · L · Rᵀ.
#[derive(Clone, Debug)]
pub struct LowRankFactors {
    /// L `[d_out, rank]`.
    pub left: Tensor<2>,
    /// R `[d_in, rank]`.
    pub right: Tensor<2>,
    /// s.
    pub scaling: f32,
}

/// The outputs of layers with one input, side by side, on top of `residual`.
///
/// On the CPU this is one product per layer, after which biases, updates and the residual are added
/// while a few rows are in the cache. The backward pass computes the gradients of the input, the
/// residual and the factors; it keeps only the input, and that only if a factor is trained. If a
/// weight or a bias is trained, composed operations run instead.
///
/// # Shapes
/// - input: `[rows, d_in]`
/// - residual, output: `[rows, Σ d_out]`
///
/// # Panics
/// If there are no layers, or more than three.
pub fn adapted_linear(
    input: Tensor<2>,
    layers: &[AdaptedLayer],
    residual: Option<Tensor<2>>,
) -> Tensor<2> {
    assert!(matches!(layers.len(), 1..=3), "{} layers", layers.len());
    let trained = layers.iter().any(|layer| {
        layer.weight.is_tracked() || layer.bias.as_ref().is_some_and(|bias| bias.is_tracked())
    });
    if trained {
        return composed(input, layers, residual);
    }
    if !has_kernels(&input.device()) {
        return without_kernels(input, layers, residual);
    }
    let (plan, tracked) = plan(layers, residual);
    let weights = layers.iter().map(|layer| layer.weight.stored()).collect();
    let biases = layers.iter().filter_map(|layer| layer.bias.clone());
    let biases = biases.map(Tensor::into_dispatch).collect();
    let tracked = tracked.into_iter().map(Tensor::into_dispatch).collect();
    let input = input.into_dispatch();
    let (tracked, biases) = (TensorList::new(tracked), TensorList::new(biases));
    let output =
        Dispatch::fused_adapted_linear(input, tracked, WeightList::new(weights), biases, plan);
    Tensor::from_dispatch(output)
}

/// The plan, and the tensors besides the input that have gradients.
fn plan(layers: &[AdaptedLayer], residual: Option<Tensor<2>>) -> (LinearPlan, Vec<Tensor<2>>) {
    let plan = LinearPlan {
        has_residual: residual.is_some(),
        layers: layers
            .iter()
            .map(|layer| LayerPlan {
                has_bias: layer.bias.is_some(),
                scaling: layer.update.as_ref().map(|update| update.scaling),
            })
            .collect(),
    };
    let mut tracked: Vec<_> = residual.into_iter().collect();
    let updates = layers.iter().filter_map(|layer| layer.update.as_ref());
    for LowRankFactors { left, right, .. } in updates {
        tracked.extend([left.clone(), right.clone()]);
    }
    (plan, tracked)
}

pub(crate) fn without_kernels(
    input: Tensor<2>,
    layers: &[AdaptedLayer],
    residual: Option<Tensor<2>>,
) -> Tensor<2> {
    let (plan, mut tracked) = plan(layers, residual);
    tracked.insert(0, input);
    let composed = ComposedLinear::new(layers, plan);
    #[cfg(feature = "gpu")]
    if crate::computes_later(&tracked[0].device()) {
        return compose(tracked, crate::gpu::LaunchedLinear(composed));
    }
    compose(tracked, composed)
}

fn composed(input: Tensor<2>, layers: &[AdaptedLayer], residual: Option<Tensor<2>>) -> Tensor<2> {
    let outputs = layers.iter().map(|layer| {
        let mut output = layer.weight.composed_product(input.clone());
        if let Some(bias) = &layer.bias {
            output = output + bias.clone().unsqueeze::<2>();
        }
        match &layer.update {
            Some(LowRankFactors {
                left,
                right,
                scaling,
            }) => {
                let thin = input.clone().matmul(right.clone()) * *scaling;
                output + thin.matmul(left.clone().transpose())
            }
            None => output,
        }
    });
    let mut outputs: Vec<Tensor<2>> = outputs.collect();
    let output = match outputs.len() {
        1 => outputs.remove(0),
        _ => Tensor::cat(outputs, 1),
    };
    match residual {
        Some(residual) => residual + output,
        None => output,
    }
}

/// Which tensors an [`adapted_linear`] has, in the order of its arguments.
#[derive(Clone, Debug)]
pub(crate) struct LinearPlan {
    pub has_residual: bool,
    pub layers: Arc<[LayerPlan]>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerPlan {
    pub has_bias: bool,
    /// `None` if there is no update.
    pub scaling: Option<f32>,
}

impl LinearPlan {
    /// How many of the tensors with gradients, besides the input, come before the factors.
    pub fn before_factors(&self) -> usize {
        usize::from(self.has_residual)
    }
}

/// The gradients that a backward pass needs.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub input: bool,
    /// Left and right of each layer with an update.
    pub factors: Vec<bool>,
}

pub(crate) struct LinearGradients<B: Backend> {
    pub input: Option<FloatTensor<B>>,
    /// The requested gradients.
    pub factors: Vec<Option<FloatTensor<B>>>,
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait AdaptedLinear: Backend {
    /// - tracked: the residual if there is one, and left and right of each update
    /// - weights: each layer's
    /// - biases: of the layers that have one
    fn fused_adapted_linear(
        input: FloatTensor<Self>,
        #[extension_type] tracked: TensorList<Self>,
        #[extension_type] weights: WeightList<Self>,
        #[extension_type] biases: TensorList<Self>,
        plan: LinearPlan,
    ) -> FloatTensor<Self>;
}

pub(crate) trait AdaptedLinearBackward: Backend {
    /// With t = s · x · R and dt = s · dy · L: dx = dy · W + dt · Rᵀ, dL = dyᵀ · t, dR = xᵀ · dt.
    ///
    /// - input: the input of the forward pass, if a factor's gradient is needed
    /// - factors: left and right of each update
    fn fused_adapted_linear_backward(
        gradient: FloatTensor<Self>,
        input: Option<FloatTensor<Self>>,
        factors: Vec<FloatTensor<Self>>,
        weights: Vec<StoredWeight<Self>>,
        plan: &LinearPlan,
        wanted: &Wanted,
    ) -> LinearGradients<Self>;
}

impl AdaptedLinear for Flex {
    fn fused_adapted_linear(
        input: FlexTensor,
        tracked: TensorList<Self>,
        weights: WeightList<Self>,
        biases: TensorList<Self>,
        plan: LinearPlan,
    ) -> FlexTensor {
        let mut tracked = tracked.into_vec();
        let factors = tracked.split_off(plan.before_factors());
        let residual = tracked.first().map(FlexTensor::to_contiguous);
        let input = input.to_contiguous();
        let layers = rows::Layers::new(&factors, weights.into_vec(), &plan);
        layers.forward(&input, &biases.into_vec(), residual.as_ref())
    }
}

impl AdaptedLinearBackward for Flex {
    fn fused_adapted_linear_backward(
        gradient: FlexTensor,
        input: Option<FlexTensor>,
        factors: Vec<FlexTensor>,
        weights: Vec<StoredWeight<Self>>,
        plan: &LinearPlan,
        wanted: &Wanted,
    ) -> LinearGradients<Self> {
        let gradient = gradient.to_contiguous();
        let input = input.map(|input| input.to_contiguous());
        rows::Layers::new(&factors, weights, plan).backward(&gradient, input.as_ref(), wanted)
    }
}

impl<B: AdaptedLinear + AdaptedLinearBackward, C: CheckpointStrategy> AdaptedLinear
    for Autodiff<B, C>
{
    fn fused_adapted_linear(
        input: FloatTensor<Self>,
        tracked: TensorList<Self>,
        weights: WeightList<Self>,
        biases: TensorList<Self>,
        plan: LinearPlan,
    ) -> FloatTensor<Self> {
        let weights = weights.into_vec().into_iter();
        let weights: Vec<_> = weights.map(StoredWeight::into_inner).collect();
        let biases = biases.into_vec().into_iter();
        let biases = TensorList::new(biases.map(|bias| bias.into_primitive()).collect());
        let parents = std::iter::once(input).chain(tracked.into_vec());
        Self::differentiable_list(
            parents.collect(),
            |mut parents, _| {
                let input = parents.remove(0);
                let factors = parents[plan.before_factors()..].to_vec();
                let kept = Kept {
                    // Without an update, nothing is trained.
                    input: (!factors.is_empty()).then(|| input.clone()),
                    factors,
                    weights: weights.clone(),
                    plan: plan.clone(),
                };
                let (tracked, weights) = (TensorList::new(parents), WeightList::new(weights));
                let output = B::fused_adapted_linear(input, tracked, weights, biases, plan);
                (output, kept)
            },
            gradients,
        )
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct Kept<B: Backend> {
    input: Option<FloatTensor<B>>,
    factors: Vec<FloatTensor<B>>,
    weights: Vec<StoredWeight<B>>,
    plan: LinearPlan,
}

/// The gradients of the input, of the residual if there is one, and of the factors.
fn gradients<B: AdaptedLinearBackward>(
    kept: Kept<B>,
    gradient: FloatTensor<B>,
    wanted: &[bool],
) -> Vec<Option<FloatTensor<B>>> {
    let wanted = Wanted {
        input: wanted[0],
        factors: wanted[1 + kept.plan.before_factors()..].to_vec(),
    };
    let found = B::fused_adapted_linear_backward(
        gradient.clone(),
        kept.input,
        kept.factors,
        kept.weights,
        &kept.plan,
        &wanted,
    );
    let residual = kept.plan.has_residual.then_some(Some(gradient));
    let input = [found.input].into_iter();
    input.chain(residual).chain(found.factors).collect()
}

#[cfg(test)]
#[path = "adapted_linear_tests.rs"]
mod tests;
