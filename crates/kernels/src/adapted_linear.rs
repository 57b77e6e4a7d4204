//! Frozen linear layers with updates of low rank on top, in one pass.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use crate::adapted_linear_rows as rows;
use crate::frozen_linear::frozen_linear;
use crate::has_kernels;
use crate::tensor_list::TensorList;

/// A frozen linear layer: x · Wᵀ + b + s · (x · R) · Lᵀ.
#[derive(Clone, Debug)]
pub struct AdaptedLayer {
    /// W `[d_out, d_in]`, in any float type.
    pub weight: Tensor<2>,
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
/// On the CPU this is one product a layer, after which biases, updates and the residual are added
/// while a few rows are in the cache. The backward pass gives gradients to the input, the residual and
/// the factors; of what it needs only the input is kept, and that only where a factor is trained. Where
/// a weight or a bias is trained, composed operations run.
///
/// # Shapes
/// - input: `[rows, d_in]`
/// - residual, output: `[rows, Σ d_out]`
///
/// # Panics
/// If there is no layer, or there are more than three.
pub fn adapted_linear(
    input: Tensor<2>,
    layers: &[AdaptedLayer],
    residual: Option<Tensor<2>>,
) -> Tensor<2> {
    assert!(matches!(layers.len(), 1..=3), "{} layers", layers.len());
    let trained = layers.iter().any(|layer| {
        layer.weight.is_tracked() || layer.bias.as_ref().is_some_and(|bias| bias.is_tracked())
    });
    if !has_kernels(&input.device()) || trained {
        return composed(input, layers, residual);
    }
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
    let mut frozen = Vec::new();
    let mut tracked: Vec<_> = residual.map(Tensor::into_dispatch).into_iter().collect();
    for layer in layers.iter().cloned() {
        frozen.push(layer.weight.into_dispatch());
        frozen.extend(layer.bias.map(Tensor::into_dispatch));
        if let Some(LowRankFactors { left, right, .. }) = layer.update {
            tracked.extend([left, right].map(Tensor::into_dispatch));
        }
    }
    let input = input.into_dispatch();
    let (tracked, frozen) = (TensorList::new(tracked), TensorList::new(frozen));
    Tensor::from_dispatch(Dispatch::fused_adapted_linear(input, tracked, frozen, plan))
}

fn composed(input: Tensor<2>, layers: &[AdaptedLayer], residual: Option<Tensor<2>>) -> Tensor<2> {
    let outputs = layers.iter().map(|layer| {
        let mut output = frozen_linear(input.clone(), layer.weight.clone());
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

/// Which tensors an [`adapted_linear`] has, in the order in which it is given them.
#[derive(Clone, Debug)]
pub(crate) struct LinearPlan {
    pub has_residual: bool,
    pub layers: Arc<[LayerPlan]>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerPlan {
    pub has_bias: bool,
    /// `None` where there is no update.
    pub scaling: Option<f32>,
}

impl LinearPlan {
    /// How many of the tensors with gradients, besides the input, come before the factors.
    pub fn before_factors(&self) -> usize {
        usize::from(self.has_residual)
    }
}

/// The gradients that a backward pass is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub input: bool,
    /// Left and right of each layer with an update.
    pub factors: Vec<bool>,
}

pub(crate) struct LinearGradients<B: Backend> {
    pub input: Option<FloatTensor<B>>,
    /// As wanted.
    pub factors: Vec<Option<FloatTensor<B>>>,
}

#[backend_extension(Autodiff, Flex)]
pub(crate) trait AdaptedLinear: Backend {
    /// - tracked: the residual if there is one, and left and right of each update
    /// - frozen: weight and, if there is one, bias of each layer
    fn fused_adapted_linear(
        input: FloatTensor<Self>,
        #[extension_type] tracked: TensorList<Self>,
        #[extension_type] frozen: TensorList<Self>,
        plan: LinearPlan,
    ) -> FloatTensor<Self>;
}

pub(crate) trait AdaptedLinearBackward: Backend {
    /// With t = s · x · R and dt = s · dy · L: dx = dy · W + dt · Rᵀ, dL = dyᵀ · t, dR = xᵀ · dt.
    ///
    /// - input: what the forward pass got, if a factor's gradient is wanted
    /// - factors: left and right of each update
    fn fused_adapted_linear_backward(
        gradient: FloatTensor<Self>,
        input: Option<FloatTensor<Self>>,
        factors: Vec<FloatTensor<Self>>,
        frozen: Vec<FloatTensor<Self>>,
        plan: &LinearPlan,
        wanted: &Wanted,
    ) -> LinearGradients<Self>;
}

impl AdaptedLinear for Flex {
    fn fused_adapted_linear(
        input: FlexTensor,
        tracked: TensorList<Self>,
        frozen: TensorList<Self>,
        plan: LinearPlan,
    ) -> FlexTensor {
        let (mut tracked, frozen) = (tracked.into_vec(), frozen.into_vec());
        let factors = tracked.split_off(plan.before_factors());
        let residual = tracked.first().map(FlexTensor::to_contiguous);
        let input = input.to_contiguous();
        let layers = rows::Layers::new(&factors, &frozen, &plan);
        layers.forward(&input, residual.as_ref())
    }
}

impl AdaptedLinearBackward for Flex {
    fn fused_adapted_linear_backward(
        gradient: FlexTensor,
        input: Option<FlexTensor>,
        factors: Vec<FlexTensor>,
        frozen: Vec<FlexTensor>,
        plan: &LinearPlan,
        wanted: &Wanted,
    ) -> LinearGradients<Self> {
        let gradient = gradient.to_contiguous();
        let input = input.map(|input| input.to_contiguous());
        rows::Layers::new(&factors, &frozen, plan).backward(&gradient, input.as_ref(), wanted)
    }
}

impl<B: AdaptedLinear + AdaptedLinearBackward, C: CheckpointStrategy> AdaptedLinear
    for Autodiff<B, C>
{
    fn fused_adapted_linear(
        input: FloatTensor<Self>,
        tracked: TensorList<Self>,
        frozen: TensorList<Self>,
        plan: LinearPlan,
    ) -> FloatTensor<Self> {
        let (tracked, frozen) = (tracked.into_vec(), frozen.into_vec());
        let frozen: Vec<_> = frozen.into_iter().map(|one| one.into_primitive()).collect();
        let nodes = std::iter::once(&input).chain(&tracked);
        let nodes: Vec<NodeGuard> = nodes.map(|tensor| tensor.node()).collect();
        let input = input.into_primitive();
        let tracked: Vec<_> = tracked
            .into_iter()
            .map(|one| one.into_primitive())
            .collect();
        // An input, perhaps a residual, and the factors of up to three layers.
        match nodes.len() {
            1 => record::<B, C, 1>(nodes, input, tracked, frozen, plan),
            2 => record::<B, C, 2>(nodes, input, tracked, frozen, plan),
            3 => record::<B, C, 3>(nodes, input, tracked, frozen, plan),
            4 => record::<B, C, 4>(nodes, input, tracked, frozen, plan),
            5 => record::<B, C, 5>(nodes, input, tracked, frozen, plan),
            6 => record::<B, C, 6>(nodes, input, tracked, frozen, plan),
            7 => record::<B, C, 7>(nodes, input, tracked, frozen, plan),
            8 => record::<B, C, 8>(nodes, input, tracked, frozen, plan),
            count => unreachable!("{count} tensors of at most three layers"),
        }
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct Saved<T> {
    input: Option<T>,
    factors: Vec<T>,
    frozen: Vec<T>,
    plan: LinearPlan,
}

#[derive(Debug)]
struct Linear;

impl<B: AdaptedLinearBackward, const N: usize> Backward<B, N> for Linear {
    type State = Saved<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let saved = ops.state;
        let first_factor = 1 + saved.plan.before_factors();
        let wanted = Wanted {
            input: ops.parents[0].is_some(),
            factors: ops.parents[first_factor..]
                .iter()
                .map(Option::is_some)
                .collect(),
        };
        let found = B::fused_adapted_linear_backward(
            gradient.clone(),
            saved.input,
            saved.factors,
            saved.frozen,
            &saved.plan,
            &wanted,
        );
        let residual = saved.plan.has_residual.then_some(Some(gradient));
        let found = [found.input]
            .into_iter()
            .chain(residual)
            .chain(found.factors);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<B>(parent.id, gradient);
            }
        }
    }
}

fn record<B: AdaptedLinear + AdaptedLinearBackward, C: CheckpointStrategy, const N: usize>(
    nodes: Vec<NodeGuard>,
    input: FloatTensor<B>,
    tracked: Vec<FloatTensor<B>>,
    frozen: Vec<FloatTensor<B>>,
    plan: LinearPlan,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes: [NodeGuard; N] = nodes.try_into().expect("N nodes");
    let run = |input, tracked, frozen, plan| {
        let (tracked, frozen) = (TensorList::new(tracked), TensorList::new(frozen));
        B::fused_adapted_linear(input, tracked, frozen, plan)
    };
    match Linear.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(preparation) => {
            let factors = tracked[plan.before_factors()..].to_vec();
            let saved = Saved {
                // Without an update, nothing is trained.
                input: (!factors.is_empty()).then(|| input.clone()),
                factors,
                frozen: frozen.clone(),
                plan: plan.clone(),
            };
            let output = run(input, tracked, frozen, plan);
            preparation.finish(saved, output)
        }
        OpsKind::UnTracked(preparation) => preparation.finish(run(input, tracked, frozen, plan)),
    }
}

#[cfg(test)]
#[path = "adapted_linear_tests.rs"]
mod tests;
