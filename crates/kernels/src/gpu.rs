//! Operations whose every pass is a kernel of the crate `eigenmix-cube` or two: what runs on GPUs, where a
//! composition of Burn's operations would launch many.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use eigenmix_cube as cube;

use crate::activation::Activation;
use crate::attention::AttentionPlan;
use crate::attention_shape::{AttentionShape, Visibility};
use crate::composed_linear::{ComposedLinear, KeptInputs, LinearInputs};
use crate::composed_norm::ComposedNorm;
use crate::composition::{Composition, constant};
use crate::gate::Gated;
use crate::latest::Latest;

/// [`ComposedLinear`] as kernels.
#[derive(Clone, Debug)]
pub(crate) struct LaunchedLinear(pub ComposedLinear);

impl Composition for LaunchedLinear {
    type Kept = KeptInputs;

    fn forward(&self, inputs: Vec<Tensor<2>>, is_tracked: bool) -> (Tensor<2>, KeptInputs) {
        let LinearInputs {
            input,
            residual,
            factors,
        } = self.0.inputs(inputs);
        let output = cube::adapted_linear(input.clone(), self.layers(&factors), residual);
        (output, KeptInputs::of(input, factors, is_tracked))
    }

    fn backward(
        &self,
        kept: KeptInputs,
        gradient: Tensor<2>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<2>>> {
        let KeptInputs { input, factors } = kept;
        let before = 1 + self.0.plan.before_factors();
        let of_layers: Vec<bool> = std::iter::once(wanted[0])
            .chain(wanted[before..].iter().copied())
            .collect();
        let layers = self.layers(&factors);
        let found = cube::adapted_linear_gradients(input, layers, gradient.clone(), &of_layers);
        let mut found = found.into_iter();
        let of_input = found.next().flatten();
        let residual = (before > 1).then_some(Some(gradient));
        std::iter::once(of_input)
            .chain(residual)
            .chain(found)
            .collect()
    }
}

impl LaunchedLinear {
    fn layers(&self, factors: &[Tensor<2>]) -> Vec<cube::LinearLayer> {
        let composed = &self.0;
        let (mut pairs, mut biases) = (factors.chunks_exact(2), composed.biases.iter());
        let layers = composed.weights.iter().zip(composed.plan.layers.iter());
        let layers = layers.map(|(weight, plan)| cube::LinearLayer {
            weight: weight.on_gpu(),
            bias: plan.has_bias.then(|| biases.next().cloned()).flatten(),
            update: plan.scaling.and_then(|scaling| {
                let [left, right] = pairs.next()? else {
                    return None;
                };
                let (left, right) = (left.clone(), right.clone());
                Some(cube::Update {
                    left,
                    right,
                    scaling,
                })
            }),
        });
        layers.collect()
    }
}

/// [`ComposedNorm`] as a kernel.
#[derive(Clone, Debug)]
pub(crate) struct LaunchedNorm(pub ComposedNorm);

impl LaunchedNorm {
    fn norm(&self) -> cube::Norm {
        cube::Norm {
            gamma: self.0.gamma.clone(),
            beta: self.0.beta.clone(),
            centred: self.0.centred,
            epsilon: self.0.epsilon as f32,
        }
    }
}

impl Composition for LaunchedNorm {
    type Kept = Tensor<2>;

    fn forward(&self, mut inputs: Vec<Tensor<2>>, _: bool) -> (Tensor<2>, Tensor<2>) {
        let input = inputs.remove(0);
        (cube::norm(input.clone(), self.norm()), input)
    }

    fn backward(
        &self,
        input: Tensor<2>,
        gradient: Tensor<2>,
        _: &[bool],
    ) -> Vec<Option<Tensor<2>>> {
        vec![Some(cube::norm_gradient(input, gradient, self.norm()))]
    }
}

/// Rotary position embedding as a kernel.
#[derive(Clone, Debug)]
pub(crate) struct LaunchedTurn {
    /// `[rows, d_head / 2]` each.
    cosines: Tensor<2>,
    sines: Tensor<2>,
    heads: usize,
}

impl LaunchedTurn {
    /// - cosines, sines: `[rows, d_head / 2]`
    pub fn new(cosines: Tensor<2>, sines: Tensor<2>, heads: usize) -> Self {
        Self {
            cosines: constant(cosines),
            sines: constant(sines),
            heads,
        }
    }

    fn turned(&self, input: Tensor<2>, back: bool) -> Tensor<2> {
        let heads = self.heads;
        let turn = cube::Turn { heads, back };
        cube::rotary(input, self.cosines.clone(), self.sines.clone(), turn)
    }
}

impl Composition for LaunchedTurn {
    type Kept = ();

    fn forward(&self, mut inputs: Vec<Tensor<2>>, _: bool) -> (Tensor<2>, ()) {
        (self.turned(inputs.remove(0), false), ())
    }

    fn backward(&self, (): (), gradient: Tensor<2>, _: &[bool]) -> Vec<Option<Tensor<2>>> {
        vec![Some(self.turned(gradient, true))]
    }
}

/// [`Gated`] as a kernel.
#[derive(Clone, Debug)]
pub(crate) struct LaunchedGate(pub Gated);

impl Composition for LaunchedGate {
    type Kept = Tensor<2>;

    fn forward(&self, mut inputs: Vec<Tensor<2>>, _: bool) -> (Tensor<2>, Tensor<2>) {
        let both = inputs.remove(0);
        let (function, behind) = (function(self.0.function()), self.0.is_behind());
        (cube::gate(both.clone(), function, behind), both)
    }

    fn backward(&self, both: Tensor<2>, gradient: Tensor<2>, _: &[bool]) -> Vec<Option<Tensor<2>>> {
        let (function, behind) = (function(self.0.function()), self.0.is_behind());
        vec![Some(cube::gate_gradient(both, gradient, function, behind))]
    }
}

fn function(activation: Activation) -> cube::Function {
    match activation {
        Activation::Gelu => cube::Function::Gelu,
        Activation::GeluTanh => cube::Function::GeluTanh,
        Activation::QuickGelu => cube::Function::QuickGelu,
        Activation::Silu => cube::Function::Silu,
        Activation::Relu => cube::Function::Relu,
    }
}

/// Attention as a few kernels and products of matrices.
#[derive(Clone, Debug)]
pub(crate) struct LaunchedAttention {
    attention: Arc<cube::Attention>,
    sequences: Arc<cube::PackedSequences>,
}

/// What places of sequences follow from.
type Places = (Arc<[usize]>, Arc<[usize]>, Device);

static LATEST: Latest<Places, Arc<cube::PackedSequences>> = Latest::new();

/// How many batches' places are kept: a model has attention of a few kinds, and all its layers share them.
const KEPT: usize = 4;

impl LaunchedAttention {
    /// - device: without autodiff
    pub fn new(plan: &AttentionPlan, device: &Device) -> Self {
        let shape = &plan.shape;
        let attention = cube::Attention {
            places: plan.places,
            n_heads: shape.n_heads,
            n_key_heads: shape.n_key_heads,
            d_head: plan.d_head,
            scale: shape.scale,
            softcap: shape.softcap,
            seen: match shape.visibility {
                Visibility::Everything => cube::Seen::Everything,
                Visibility::Causal => cube::Seen::Causal,
                Visibility::Window(width) => cube::Seen::Window(width),
            },
        };
        Self {
            attention: Arc::new(attention),
            sequences: sequences(shape, device),
        }
    }
}

/// Made once for a batch; only the offsets are moved to the device.
fn sequences(shape: &AttentionShape, device: &Device) -> Arc<cube::PackedSequences> {
    let AttentionShape {
        offsets,
        key_offsets,
        ..
    } = shape;
    let is_the_one = |(queries, keys, place): &Places| {
        place == device && queries == offsets && keys == key_offsets
    };
    let make = || {
        let made = cube::PackedSequences::new(offsets, key_offsets, device);
        let key = (offsets.clone(), key_offsets.clone(), device.clone());
        (key, Arc::new(made))
    };
    LATEST.get(KEPT, is_the_one, make)
}

impl Composition for LaunchedAttention {
    type Kept = Vec<Tensor<2>>;

    fn forward(&self, inputs: Vec<Tensor<2>>, _: bool) -> (Tensor<2>, Self::Kept) {
        let output = self.attention.forward(inputs.clone(), &self.sequences);
        (output, inputs)
    }

    fn backward(
        &self,
        inputs: Vec<Tensor<2>>,
        gradient: Tensor<2>,
        _: &[bool],
    ) -> Vec<Option<Tensor<2>>> {
        let found = self.attention.gradients(inputs, gradient, &self.sequences);
        found.into_iter().map(Some).collect()
    }
}
