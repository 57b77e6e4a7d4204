//! One module's update as matrices on the host: `ΔW = s · U · M · Vᵀ`, and which of them are trained.

use std::collections::BTreeMap;

use eigenmix_adapter::LoraModule;
use eigenmix_tensors::{HostTensor, Matrix};

use crate::parameters::check_shape;
use crate::{AdapterWeights, ParameterError, TrainedValues};

/// A factor of the update and whether training changes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor {
    pub matrix: Matrix,
    pub trained: bool,
}

impl Factor {
    pub fn trained(matrix: Matrix) -> Self {
        Self {
            matrix,
            trained: true,
        }
    }

    pub fn frozen(matrix: Matrix) -> Self {
        Self {
            matrix,
            trained: false,
        }
    }
}

/// M `[p, q]`, the matrix between the two sides.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// M = I, with p = q: LoRA.
    Identity,
    /// M itself: MoSLoRA's W, eigenmix's coefficients.
    Full(Factor),
    /// M = C_B · C_Aᵀ: EigenLoRAx.
    Factored {
        /// C_B: `[p, rank]`.
        left: Factor,
        /// C_A: `[q, rank]`.
        right: Factor,
    },
    /// M = (b ⊗ I) · (a ⊗ I)ᵀ: EigenLoRAx on a flattened subspace.
    Replicated(ReplicatedCoefficients),
    /// M = diag(w_{t(k)}): a composition of adapters.
    Weighted(AdapterWeights),
}

/// A number for each direction, which stands for whole factors: `C_B = b ⊗ I` and `C_A = a ⊗ I`, I `[r, r]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicatedCoefficients {
    /// b: `[p, 1]`.
    pub left: Factor,
    /// a: `[q, 1]`.
    pub right: Factor,
    /// r: the rank of the factors, of which the sides have `p · r` and `q · r` columns.
    pub rank: usize,
}

impl ReplicatedCoefficients {
    /// `c ⊗ I` `[p · r, r]` of c `[p, 1]`.
    fn replicated(&self, factor: &Factor) -> Matrix {
        let rank = self.rank;
        Matrix::from_fn(factor.matrix.rows() * rank, rank, |row, column| {
            match row % rank == column {
                true => factor.matrix.get(row / rank, 0),
                false => 0.0,
            }
        })
    }
}

/// The update of one module.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// U: `[d_out, p]`.
    pub left: Factor,
    pub mixer: Mixer,
    /// V: `[d_in, q]`.
    pub right: Factor,
    /// s.
    pub scaling: f32,
    /// Dropout probability on the input of the update during training.
    pub dropout: f64,
}

impl Update {
    /// A frozen update that computes what a saved adapter does (its magnitude and bias belong to
    /// the layer of the base weight).
    pub fn from_lora(module: &LoraModule) -> Self {
        let mixer = match &module.mixer {
            Some(mixer) => Mixer::Full(Factor::frozen(mixer.clone())),
            None => Mixer::Identity,
        };
        Self {
            left: Factor::frozen(module.b.clone()),
            mixer,
            right: Factor::frozen(module.a.transposed()),
            scaling: module.scaling,
            dropout: 0.0,
        }
    }

    pub fn d_in(&self) -> usize {
        self.right.matrix.rows()
    }

    pub fn d_out(&self) -> usize {
        self.left.matrix.rows()
    }

    /// The factors with the names under which they are trained and saved.
    pub fn factors(&self) -> Vec<(&'static str, &Factor)> {
        let mut factors = vec![("left", &self.left), ("right", &self.right)];
        match &self.mixer {
            Mixer::Identity => {}
            Mixer::Full(mixer) => factors.push(("mixer", mixer)),
            Mixer::Factored { left, right }
            | Mixer::Replicated(ReplicatedCoefficients { left, right, .. }) => {
                factors.push(("left_coefficients", left));
                factors.push(("right_coefficients", right));
            }
            Mixer::Weighted(mixer) => factors.push(("weights", &mixer.weights)),
        }
        factors
    }

    /// The name in files of a factor of the update of `module`: `MODULE/FACTOR`, or one without the
    /// module for a factor that all modules share.
    pub(crate) fn parameter_name(&self, module: &str, factor: &str) -> String {
        match (&self.mixer, factor) {
            (Mixer::Weighted(mixer), "weights") => mixer.name(module),
            _ => format!("{module}/{factor}"),
        }
    }

    /// How many parameters training changes, shared ones included.
    pub fn trained_parameters(&self) -> usize {
        self.factors()
            .iter()
            .filter(|(_, factor)| factor.trained)
            .map(|(_, factor)| factor.matrix.values().len())
            .sum()
    }

    /// Replaces every trained factor by its value in `values`, by their names in files.
    ///
    /// # Errors
    /// If a trained factor is missing there or has another shape.
    pub fn with_values(
        mut self,
        module: &str,
        values: &TrainedValues,
    ) -> Result<Self, ParameterError> {
        let replace = |name: String, factor: &mut Factor| {
            if !factor.trained {
                return Ok(());
            }
            let value = values
                .get(&name)
                .ok_or_else(|| ParameterError::Missing(name.clone()))?;
            check_shape(&name, value, &factor.matrix.shape())?;
            let [rows, cols] = factor.matrix.shape();
            factor.matrix = Matrix::new(rows, cols, value.values.clone());
            Ok(())
        };
        let own = |factor: &str| format!("{module}/{factor}");
        replace(own("left"), &mut self.left)?;
        replace(own("right"), &mut self.right)?;
        match &mut self.mixer {
            Mixer::Identity => {}
            Mixer::Full(mixer) => replace(own("mixer"), mixer)?,
            Mixer::Factored { left, right }
            | Mixer::Replicated(ReplicatedCoefficients { left, right, .. }) => {
                replace(own("left_coefficients"), left)?;
                replace(own("right_coefficients"), right)?;
            }
            Mixer::Weighted(mixer) => replace(mixer.name(module), &mut mixer.weights)?,
        }
        Ok(self)
    }

    /// The trained factors by their names in files.
    pub fn values(&self, module: &str) -> TrainedValues {
        self.factors()
            .into_iter()
            .filter(|(_, factor)| factor.trained)
            .map(|(name, factor)| {
                let name = self.parameter_name(module, name);
                (name, HostTensor::from(&factor.matrix))
            })
            .collect()
    }

    /// Plain LoRA factors with the same ΔW and scaling 1: M and s are multiplied into the side that
    /// makes the rank smallest, which is min(p, q), or EigenLoRAx's coefficient rank; of a composition
    /// Σr.
    pub fn fold(&self) -> LoraModule {
        let (left, right) = (&self.left.matrix, &self.right.matrix);
        let (b, a) = match &self.mixer {
            Mixer::Identity => (left.clone(), right.transposed()),
            Mixer::Full(mixer) if mixer.matrix.rows() < mixer.matrix.cols() => {
                (left.clone(), mixer.matrix.product(&right.transposed()))
            }
            Mixer::Full(mixer) => (left.product(&mixer.matrix), right.transposed()),
            Mixer::Factored {
                left: left_coefficients,
                right: right_coefficients,
            } => (
                left.product(&left_coefficients.matrix),
                right.product(&right_coefficients.matrix).transposed(),
            ),
            Mixer::Replicated(mixer) => (
                left.product(&mixer.replicated(&mixer.left)),
                right.product(&mixer.replicated(&mixer.right)).transposed(),
            ),
            Mixer::Weighted(mixer) => (mixer.weighted(left), right.transposed()),
        };
        LoraModule::new(b.scaled(self.scaling), a, 1.0)
    }
}

/// How many parameters the training of the updates of a model, by module path, changes: those that modules
/// share count once.
pub fn trained_parameters(updates: &BTreeMap<String, Update>) -> usize {
    let mut counts = BTreeMap::new();
    for (module, update) in updates {
        for (name, factor) in update.factors() {
            if factor.trained {
                let count = factor.matrix.values().len();
                counts.insert(update.parameter_name(module, name), count);
            }
        }
    }
    counts.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, cols: usize, seed: f32) -> Matrix {
        Matrix::from_fn(rows, cols, |row, col| {
            ((row * 7 + col * 3) as f32 * 0.37 + seed).sin()
        })
    }

    #[test]
    fn folding_takes_the_smaller_side_as_rank_and_keeps_the_update() {
        for (p, q) in [(3, 5), (5, 3)] {
            let (left, right, mixer) = (matrix(7, p, 0.1), matrix(6, q, 0.2), matrix(p, q, 0.3));
            let expected = left
                .product(&mixer)
                .product(&right.transposed())
                .scaled(1.5);
            let folded = Update {
                left: Factor::frozen(left),
                mixer: Mixer::Full(Factor::trained(mixer)),
                right: Factor::frozen(right),
                scaling: 1.5,
                dropout: 0.0,
            }
            .fold();
            assert_eq!((folded.rank(), folded.d_out(), folded.d_in()), (3, 7, 6));
            let difference = folded
                .update()
                .values()
                .iter()
                .zip(expected.values())
                .map(|(found, expected)| (found - expected).abs())
                .fold(0.0, f32::max);
            assert!(difference < 1e-5, "{difference}");
        }
    }

    #[test]
    fn trained_values_survive_the_round_trip_and_a_missing_one_is_named() {
        let update = Update {
            left: Factor::frozen(matrix(4, 3, 0.0)),
            mixer: Mixer::Factored {
                left: Factor::trained(matrix(3, 2, 0.5)),
                right: Factor::trained(matrix(3, 2, 0.6)),
            },
            right: Factor::frozen(matrix(5, 3, 0.7)),
            scaling: 2.0,
            dropout: 0.0,
        };
        let mut values = update.values("layer.query");
        assert_eq!(
            values.keys().collect::<Vec<_>>(),
            [
                "layer.query/left_coefficients",
                "layer.query/right_coefficients"
            ]
        );
        assert_eq!(
            update.clone().with_values("layer.query", &values).unwrap(),
            update
        );
        values.remove("layer.query/right_coefficients");
        let error = update.with_values("layer.query", &values).unwrap_err();
        assert!(error.to_string().contains("layer.query/right_coefficients"));
    }
}
