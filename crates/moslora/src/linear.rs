//! The adapted linear layer: `y = x · W₀ᵀ + b + s · ((x · V) · Mᵀ) · Uᵀ`.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_kernels::{AdaptedLayer, FrozenWeight, LowRankFactors, Weight};
use eigenmix_tensors::Matrix;

use crate::{Factor, Mixer, ParameterNames, Update};

/// Below how many rows a mixer is applied to them rather than to a factor.
const FEW_ROWS: usize = 32;

/// A linear layer whose weight is frozen, with an optional low-rank update on top.
///
/// Only the factors that the method trains require gradients; a frozen factor costs neither a
/// gradient nor optimiser state, and without an update the layer adds nothing to the graph.
#[derive(Module, Debug)]
pub struct AdaptedLinear {
    /// W₀ `[d_out, d_in]`
    weight: Weight,
    /// b `[d_out]`.
    bias: Option<Param<Tensor<1>>>,
    update: Option<LowRankUpdate>,
}

#[derive(Module, Debug)]
pub(crate) struct LowRankUpdate {
    left: Param<Tensor<2>>,
    mixer: MixerLayer,
    right: Param<Tensor<2>>,
    dropout: Dropout,
    scaling: f64,
}

#[derive(Module, Debug)]
enum MixerLayer {
    Identity(Identity),
    Full(Param<Tensor<2>>),
    Factored(FactoredMixer),
    Replicated(ReplicatedMixer),
    Weighted(WeightedMixer),
}

#[derive(Module, Debug)]
struct Identity {}

#[derive(Module, Debug)]
struct FactoredMixer {
    left: Param<Tensor<2>>,
    right: Param<Tensor<2>>,
}

#[derive(Module, Debug)]
struct ReplicatedMixer {
    /// b: `[p, 1]`.
    left: Param<Tensor<2>>,
    /// a: `[q, 1]`.
    right: Param<Tensor<2>>,
    /// I `[r, r]`, frozen.
    identity: Param<Tensor<2>>,
}

impl ReplicatedMixer {
    /// c ⊗ I `[p · r, r]` of c `[p, 1]`.
    fn replicated(&self, coefficients: &Param<Tensor<2>>) -> Tensor<2> {
        let coefficients = coefficients.val();
        let identity = self.identity.val();
        let ([p, _], [rank, _]) = (coefficients.dims(), identity.dims());
        let blocks = coefficients.reshape([p, 1, 1]) * identity.reshape([1, rank, rank]);
        blocks.reshape([p * rank, rank])
    }
}

#[derive(Module, Debug)]
struct WeightedMixer {
    /// w: `[T, 1]`.
    weights: Param<Tensor<2>>,
    /// Copies the weight of every adapter to its columns: `[Σr, T]`, frozen.
    copies: Param<Tensor<2>>,
}

impl WeightedMixer {
    /// The diagonal of M as a row: `[1, Σr]`.
    fn diagonal(&self) -> Tensor<2> {
        self.copies.val().matmul(self.weights.val()).transpose()
    }
}

impl AdaptedLinear {
    /// A frozen layer.
    ///
    /// - weight: `[d_out, d_in]`
    /// - bias: `[d_out]`
    pub fn frozen(weight: impl Into<FrozenWeight>, bias: Option<Tensor<1>>) -> Self {
        Self {
            weight: Weight::Frozen(weight.into()),
            bias: bias.map(|bias| parameter(bias, false)),
            update: None,
        }
    }

    /// A layer whose weight and bias are trained themselves, as those of a classification head;
    /// they are named `PATH.weight` and `PATH.bias` in `names`.
    ///
    /// - weight: `[d_out, d_in]`, f32
    /// - bias: `[d_out]`
    pub fn trained(
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
        path: &str,
        names: &mut ParameterNames,
    ) -> Self {
        let weight = parameter(weight, true);
        names.insert(weight.id, format!("{path}.weight"));
        let bias = bias.map(|bias| {
            let bias = parameter(bias, true);
            names.insert(bias.id, format!("{path}.bias"));
            bias
        });
        Self {
            weight: Weight::Trained(weight),
            bias,
            update: None,
        }
    }

    /// This layer with `update` on top; its trained factors are named `PATH/FACTOR` in `names`, those that
    /// modules share by one name.
    ///
    /// # Panics
    /// If the update has another shape than the weight.
    pub fn with_update(mut self, update: &Update, path: &str, names: &mut ParameterNames) -> Self {
        let [d_out, d_in] = self.weight.dims();
        assert_eq!(
            [update.d_out(), update.d_in()],
            [d_out, d_in],
            "update of `{path}`"
        );
        let device = self.weight.device();
        let mut place = |name: &str, factor: &Factor| {
            let param = parameter(tensor(&factor.matrix, &device), factor.trained);
            if factor.trained {
                names.insert_factor(param.id, update.parameter_name(path, name));
            }
            param
        };
        self.update = Some(LowRankUpdate {
            left: place("left", &update.left),
            right: place("right", &update.right),
            mixer: match &update.mixer {
                Mixer::Identity => MixerLayer::Identity(Identity {}),
                Mixer::Full(mixer) => MixerLayer::Full(place("mixer", mixer)),
                Mixer::Factored { left, right } => MixerLayer::Factored(FactoredMixer {
                    left: place("left_coefficients", left),
                    right: place("right_coefficients", right),
                }),
                Mixer::Replicated(mixer) => MixerLayer::Replicated(ReplicatedMixer {
                    left: place("left_coefficients", &mixer.left),
                    right: place("right_coefficients", &mixer.right),
                    identity: place("identity", &Factor::frozen(Matrix::identity(mixer.rank))),
                }),
                Mixer::Weighted(mixer) => MixerLayer::Weighted(WeightedMixer {
                    weights: place("weights", &mixer.weights),
                    copies: place("copies", &Factor::frozen(mixer.copies())),
                }),
            },
            dropout: DropoutConfig::new(update.dropout).init(),
            scaling: f64::from(update.scaling),
        });
        self
    }

    /// The weight `[d_out, d_in]`, if the layer is nothing else: no bias and no update.
    pub fn plain_weight(&self) -> Option<&Weight> {
        let is_plain = self.bias.is_none() && self.update.is_none();
        is_plain.then_some(&self.weight)
    }

    /// What it is made of, for layers that multiply in another way.
    pub(crate) fn parts(&self) -> (&Weight, Option<Tensor<1>>, Option<&LowRankUpdate>) {
        let bias = self.bias.as_ref().map(Param::val);
        (&self.weight, bias, self.update.as_ref())
    }

    /// # Shapes
    /// - input: `[..., d_in]`
    /// - output: `[..., d_out]`
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let mut shape = input.dims();
        let d_in = shape[D - 1];
        let rows = shape[..D - 1].iter().product::<usize>();
        let output = Self::forward_together(&[self], input.reshape([rows, d_in]), None);
        let [_, d_out] = output.dims();
        shape[D - 1] = d_out;
        output.reshape(shape)
    }

    /// The outputs of up to three layers with one input, side by side, on top of `residual`.
    ///
    /// # Shapes
    /// - input: `[rows, d_in]`
    /// - residual, output: `[rows, Σ d_out]`
    ///
    /// # Panics
    /// If there are no layers, or more than three.
    pub fn forward_together(
        layers: &[&Self],
        input: Tensor<2>,
        residual: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let [rows, _] = input.dims();
        let tracks = input.device().is_autodiff();
        let updates = layers.iter().filter_map(|layer| layer.update.as_ref());
        let apart = updates.clone().any(|update| update.is_apart(rows, tracks));
        let kernel_layers: Vec<AdaptedLayer> = layers
            .iter()
            .map(|layer| AdaptedLayer {
                weight: &layer.weight,
                bias: layer.bias.as_ref().map(Param::val),
                update: match &layer.update {
                    Some(update) if !apart => Some(update.thin_factors()),
                    _ => None,
                },
            })
            .collect();
        let output = eigenmix_kernels::adapted_linear(input.clone(), &kernel_layers, residual);
        if !apart {
            return output;
        }
        let added = layers.iter().map(|layer| match &layer.update {
            Some(update) => update.forward(input.clone()),
            None => {
                let [d_out, _] = layer.weight.dims();
                Tensor::zeros([rows, d_out], &input.device())
            }
        });
        let mut added: Vec<Tensor<2>> = added.collect();
        match added.len() {
            1 => output + added.remove(0),
            _ => output + Tensor::cat(added, 1),
        }
    }
}

impl LowRankUpdate {
    /// Whether the update is a path of its own: where its input is another one than the base's, or
    /// where there are so few rows that multiplying its factors first would cost more than it saves.
    fn is_apart(&self, rows: usize, tracks: bool) -> bool {
        let drops = tracks && self.dropout.prob > 0.0;
        drops || (rows < FEW_ROWS && !matches!(self.mixer, MixerLayer::Identity(_)))
    }

    /// The update's input, of which training drops some values.
    pub(crate) fn dropped(&self, input: Tensor<2>) -> Tensor<2> {
        self.dropout.forward(input)
    }

    /// The update as two factors, the mixer multiplied into one of them: `U · (V · Mᵀ)ᵀ` where U has
    /// fewer columns than V, `(U · M) · Vᵀ` otherwise. Whatever is as long as the batch is then as
    /// narrow as it can be.
    pub(crate) fn thin_factors(&self) -> LowRankFactors {
        let (left, right) = (self.left.val(), self.right.val());
        let (left, right) = match &self.mixer {
            MixerLayer::Identity(_) => (left, right),
            MixerLayer::Full(mixer) => {
                let ([d_out, p], [d_in, q]) = (left.dims(), right.dims());
                match p < q || (p == q && d_in < d_out) {
                    true => (left, right.matmul(mixer.val().transpose())),
                    false => (left.matmul(mixer.val()), right),
                }
            }
            MixerLayer::Factored(mixer) => (
                left.matmul(mixer.left.val()),
                right.matmul(mixer.right.val()),
            ),
            MixerLayer::Replicated(mixer) => (
                left.matmul(mixer.replicated(&mixer.left)),
                right.matmul(mixer.replicated(&mixer.right)),
            ),
            MixerLayer::Weighted(mixer) => {
                let ([d_out, _], [d_in, _]) = (left.dims(), right.dims());
                match d_in < d_out {
                    true => (left, right * mixer.diagonal()),
                    false => (left * mixer.diagonal(), right),
                }
            }
        };
        LowRankFactors {
            left,
            right,
            scaling: self.scaling as f32,
        }
    }

    /// `((s · x · V) · Mᵀ) · Uᵀ`: the products run over the thin side, `[rows, q]` and `[rows, p]`, and
    /// so does the scaling.
    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let input = self.dropped(input);
        let (left, right) = (self.left.val(), self.right.val());
        let thin = |right: Tensor<2>| input.matmul(right) * self.scaling;
        match &self.mixer {
            MixerLayer::Identity(_) => thin(right).matmul(left.transpose()),
            MixerLayer::Full(mixer) => thin(right)
                .matmul(mixer.val().transpose())
                .matmul(left.transpose()),
            // The coefficients' rank is the smallest size around: U · C_B and V · C_A first, so
            // that whatever is as long as the batch is only `rank` wide.
            MixerLayer::Factored(mixer) => thin(right.matmul(mixer.right.val()))
                .matmul(left.matmul(mixer.left.val()).transpose()),
            MixerLayer::Replicated(mixer) => thin(right.matmul(mixer.replicated(&mixer.right)))
                .matmul(left.matmul(mixer.replicated(&mixer.left)).transpose()),
            MixerLayer::Weighted(mixer) => {
                (thin(right) * mixer.diagonal()).matmul(left.transpose())
            }
        }
    }
}

fn parameter<const D: usize>(value: Tensor<D>, trained: bool) -> Param<Tensor<D>> {
    Param::from_tensor(value).set_require_grad(trained)
}

fn tensor(matrix: &Matrix, device: &Device) -> Tensor<2> {
    Tensor::from_data(
        TensorData::new(matrix.values().to_vec(), matrix.shape()),
        device,
    )
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
