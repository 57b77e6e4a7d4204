//! Normalisation of rows, composed of Burn's operations, whose backward pass keeps only the input: for devices
//! without the kernel.

use burn::tensor::Tensor;

use crate::composition::{Composition, constant};

/// Groups of as many values as γ has, of rows `[rows, n · d]`.
#[derive(Clone, Debug)]
pub(crate) struct ComposedNorm {
    /// `[1, d]`
    pub gamma: Tensor<2>,
    /// `[1, d]`
    pub beta: Option<Tensor<2>>,
    /// Whether the mean is subtracted.
    pub centred: bool,
    pub epsilon: f64,
}

impl ComposedNorm {
    pub fn new(gamma: Tensor<1>, beta: Option<Tensor<1>>, centred: bool, epsilon: f64) -> Self {
        Self {
            gamma: constant(gamma).unsqueeze(),
            beta: beta.map(|beta| constant(beta).unsqueeze()),
            centred,
            epsilon,
        }
    }

    fn groups(&self, rows: Tensor<2>) -> Tensor<2> {
        let ([count, width], [_, group]) = (rows.dims(), self.gamma.dims());
        match width == group {
            true => rows,
            false => rows.reshape([count * width / group, group]),
        }
    }

    /// The normalised groups, and 1 / √(variance + ε) of each.
    fn normalised(&self, groups: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let centred = match self.centred {
            true => groups.clone() - groups.mean_dim(1),
            false => groups,
        };
        let variance = centred.clone().square().mean_dim(1);
        let inverse = (variance + self.epsilon).sqrt().recip();
        (centred * inverse.clone(), inverse)
    }
}

impl Composition for ComposedNorm {
    type Kept = Tensor<2>;

    fn forward(&self, mut inputs: Vec<Tensor<2>>, _: bool) -> (Tensor<2>, Tensor<2>) {
        let input = inputs.remove(0);
        let (normalised, _) = self.normalised(self.groups(input.clone()));
        let mut output = normalised * self.gamma.clone();
        if let Some(beta) = &self.beta {
            output = output + beta.clone();
        }
        (output.reshape(input.dims()), input)
    }

    /// With x̂ the normalised input, h = γ ⊙ g and means over the group:
    /// dx = (h − mean(h) − x̂ · mean(h ⊙ x̂)) / √(variance + ε), without mean(h) if not centred.
    fn backward(
        &self,
        input: Tensor<2>,
        gradient: Tensor<2>,
        _: &[bool],
    ) -> Vec<Option<Tensor<2>>> {
        let shape = input.dims();
        let (normalised, inverse) = self.normalised(self.groups(input));
        let slope = self.groups(gradient) * self.gamma.clone();
        let along = (slope.clone() * normalised.clone()).mean_dim(1);
        let mut found = slope.clone() - normalised * along;
        if self.centred {
            found = found - slope.mean_dim(1);
        }
        vec![Some((found * inverse).reshape(shape))]
    }
}
