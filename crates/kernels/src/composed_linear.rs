//! Frozen linear layers with updates of low rank, composed of Burn's operations, whose backward pass keeps only
//! the input: for devices without kernels.

use burn::tensor::Tensor;

use crate::AdaptedLayer;
use crate::adapted_linear::LinearPlan;
use crate::composition::{Composition, constant};
use crate::device_weight::DeviceWeight;

/// The layers of an [`adapted_linear`](crate::adapted_linear). Its inputs are x, the residual if there is one,
/// and left and right of each update.
#[derive(Clone, Debug)]
pub(crate) struct ComposedLinear {
    pub plan: LinearPlan,
    pub weights: Vec<DeviceWeight>,
    /// Of the layers that have one: `[1, d_out]`.
    pub biases: Vec<Tensor<2>>,
}

/// What the gradients need. The input is there if an update is.
#[derive(Clone, Debug)]
pub(crate) struct KeptInputs {
    pub input: Option<Tensor<2>>,
    /// Left and right of each update.
    pub factors: Vec<Tensor<2>>,
}

impl ComposedLinear {
    /// - inputs: x, the residual if there is one, and left and right of each update
    pub fn inputs(&self, mut inputs: Vec<Tensor<2>>) -> LinearInputs {
        let factors = inputs.split_off(1 + self.plan.before_factors());
        LinearInputs {
            residual: inputs.get(1).cloned(),
            input: inputs.remove(0),
            factors,
        }
    }

    pub fn new(layers: &[AdaptedLayer], plan: LinearPlan) -> Self {
        let biases = layers.iter().filter_map(|layer| layer.bias.clone());
        Self {
            plan,
            weights: layers
                .iter()
                .map(|layer| layer.weight.on_device())
                .collect(),
            biases: biases.map(|bias| constant(bias).unsqueeze()).collect(),
        }
    }
}

/// The inputs of the operation, by what they are.
pub(crate) struct LinearInputs {
    pub input: Tensor<2>,
    pub residual: Option<Tensor<2>>,
    /// Left and right of each update.
    pub factors: Vec<Tensor<2>>,
}

impl KeptInputs {
    pub fn of(input: Tensor<2>, factors: Vec<Tensor<2>>, is_tracked: bool) -> Self {
        Self {
            input: (is_tracked && !factors.is_empty()).then_some(input),
            factors,
        }
    }
}

impl Composition for ComposedLinear {
    type Kept = KeptInputs;

    fn forward(&self, inputs: Vec<Tensor<2>>, is_tracked: bool) -> (Tensor<2>, KeptInputs) {
        let LinearInputs {
            input,
            residual,
            factors,
        } = self.inputs(inputs);
        let (mut pairs, mut biases) = (factors.chunks_exact(2), self.biases.iter());
        let outputs = self.weights.iter().zip(self.plan.layers.iter());
        let outputs = outputs.map(|(weight, layer)| {
            let mut output = weight.product(input.clone());
            if let Some([left, right]) = layer.scaling.and_then(|_| pairs.next()) {
                let thin = input.clone().matmul(right.clone());
                let update = thin.matmul(left.clone().transpose());
                output = output + update * layer.scaling.unwrap_or(1.0);
            }
            match layer.has_bias.then(|| biases.next()).flatten() {
                Some(bias) => output + bias.clone(),
                None => output,
            }
        });
        let mut outputs: Vec<Tensor<2>> = outputs.collect();
        let mut output = match outputs.len() {
            1 => outputs.remove(0),
            _ => Tensor::cat(outputs, 1),
        };
        if let Some(residual) = residual {
            output = output + residual;
        }
        let kept = KeptInputs::of(input, factors, is_tracked);
        (output, kept)
    }

    /// With t = s · x · R and dt = s · dy · L: dx = dy · W + dt · Rᵀ, dL = dyᵀ · t, dR = xᵀ · dt.
    fn backward(
        &self,
        kept: KeptInputs,
        gradient: Tensor<2>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<2>>> {
        let KeptInputs { input, factors } = kept;
        let [rows, _] = gradient.dims();
        let before = 1 + self.plan.before_factors();
        let mut found = vec![None; wanted.len()];
        if self.plan.has_residual && wanted[1] {
            found[1] = Some(gradient.clone());
        }
        let mut d_input: Option<Tensor<2>> = None;
        let mut add = |part: Tensor<2>| {
            d_input = Some(match d_input.take() {
                Some(sum) => sum + part,
                None => part,
            });
        };
        let (mut first, mut place) = (0, before);
        let mut pairs = factors.chunks_exact(2);
        for (weight, layer) in self.weights.iter().zip(self.plan.layers.iter()) {
            let [d_out, _] = weight.dims();
            let part = match self.weights.len() {
                1 => gradient.clone(),
                _ => gradient.clone().slice([0..rows, first..first + d_out]),
            };
            first += d_out;
            if wanted[0] {
                add(weight.input_gradient(part.clone()));
            }
            let Some((scaling, [left, right])) = layer
                .scaling
                .and_then(|scaling| Some((scaling, pairs.next()?)))
            else {
                continue;
            };
            if let (true, Some(input)) = (wanted[place], &input) {
                let thin = input.clone().matmul(right.clone()) * scaling;
                found[place] = Some(part.clone().transpose().matmul(thin));
            }
            if wanted[0] || wanted[place + 1] {
                let d_thin = part.matmul(left.clone()) * scaling;
                if let (true, Some(input)) = (wanted[place + 1], &input) {
                    found[place + 1] = Some(input.clone().transpose().matmul(d_thin.clone()));
                }
                if wanted[0] {
                    add(d_thin.matmul(right.clone().transpose()));
                }
            }
            place += 2;
        }
        found[0] = d_input;
        found
    }
}
