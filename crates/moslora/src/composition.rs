//! A composition of adapters by learned weights: ΔW = Σ_t w_t ΔW_t.
//!
//! The factors of the adapters stand side by side, so that the sum is one product of thin factors,
//! `L · diag(w_{t(k)}) · Rᵀ`, where column k of both is of adapter t(k). LoRAHub (arXiv 2307.13269)
//! searches for such weights without gradients; LoRA Soups (arXiv 2410.13025) trains them, a weight
//! for every adapter and layer.

use eigenmix_adapter::LoraModule;
use eigenmix_tensors::Matrix;

use crate::{Factor, Mixer, Update};

/// The name of the weights where all modules share them, which is that of no module.
const SHARED_NAME: &str = "composition/weights";

/// M = diag(w_{t(k)}).
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterWeights {
    /// w, in units of the update's scaling: `[T, 1]`.
    pub weights: Factor,
    /// t(k): the row of w that column k of both sides is weighted by.
    pub adapter_of: Vec<usize>,
    /// Whether all modules of the model have the same w.
    pub is_shared: bool,
}

impl AdapterWeights {
    /// The matrix that copies the weight of every adapter to its columns: `[Σr, T]`, zeros and ones.
    pub(crate) fn copies(&self) -> Matrix {
        let adapters = self.weights.matrix.rows();
        Matrix::from_fn(self.adapter_of.len(), adapters, |column, adapter| {
            f32::from(u8::from(self.adapter_of[column] == adapter))
        })
    }

    /// `side` `[d, Σr]` with every column times its weight: side · M.
    pub(crate) fn weighted(&self, side: &Matrix) -> Matrix {
        let [rows, columns] = side.shape();
        let weights = self.weights.matrix.values();
        Matrix::from_fn(rows, columns, |row, column| {
            side.get(row, column) * weights[self.adapter_of[column]]
        })
    }

    /// The name of the weights in files.
    pub(crate) fn name(&self, module: &str) -> String {
        match self.is_shared {
            true => SHARED_NAME.to_owned(),
            false => format!("{module}/weights"),
        }
    }
}

/// The composition of the updates of one module.
///
/// - members: the updates, each with the row of its weight
/// - weights: w, which the update starts with
/// - scaling: s, in units of which w is trained, as w / s
/// - is_shared: whether all modules have the same w
///
/// # Panics
/// If there are no members, their shapes differ, or a row is beyond the weights.
pub fn compose(
    members: &[(usize, &LoraModule)],
    weights: &[f32],
    is_shared: bool,
    scaling: f32,
    dropout: f64,
) -> Update {
    let [d_out, d_in] = [members[0].1.d_out(), members[0].1.d_in()];
    let count = weights.len();
    let factors: Vec<(Matrix, Matrix)> = members.iter().map(|(_, one)| one.folded()).collect();
    // The member and its column of every column of the factors side by side.
    let columns: Vec<(usize, usize)> = factors
        .iter()
        .enumerate()
        .flat_map(|(member, (_, a))| (0..a.rows()).map(move |column| (member, column)))
        .collect();
    for (adapter, module) in members {
        let shape = [module.d_out(), module.d_in()];
        assert_eq!(shape, [d_out, d_in], "updates of one module");
        assert!(*adapter < weights.len(), "an adapter has a weight");
    }
    let left = Matrix::from_fn(d_out, columns.len(), |row, column| {
        let (member, own) = columns[column];
        factors[member].0.get(row, own)
    });
    let right = Matrix::from_fn(d_in, columns.len(), |row, column| {
        let (member, own) = columns[column];
        factors[member].1.get(own, row)
    });
    let weights = weights.iter().map(|weight| weight / scaling).collect();
    Update {
        left: Factor::frozen(left),
        mixer: Mixer::Weighted(AdapterWeights {
            adapter_of: columns
                .iter()
                .map(|(member, _)| members[*member].0)
                .collect(),
            weights: Factor::trained(Matrix::new(count, 1, weights)),
            is_shared,
        }),
        right: Factor::frozen(right),
        scaling,
        dropout,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::trained_parameters;

    fn matrix(rows: usize, cols: usize, phase: f32) -> Matrix {
        Matrix::from_fn(rows, cols, |row, col| {
            ((row * 5 + col * 3) as f32 + phase).sin()
        })
    }

    /// Two updates `[7, 6]` of ranks 2 and 3, the first with a mixer, both with a scaling.
    fn members() -> [LoraModule; 2] {
        let mut first = LoraModule::new(matrix(7, 2, 0.1), matrix(2, 6, 0.2), 0.5);
        first.mixer = Some(matrix(2, 2, 0.3));
        [
            first,
            LoraModule::new(matrix(7, 3, 0.4), matrix(3, 6, 0.5), 3.0),
        ]
    }

    fn difference(found: &Matrix, expected: impl Fn(usize, usize) -> f32) -> f32 {
        let [rows, cols] = found.shape();
        let all = (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col)));
        all.map(|(row, col)| (found.get(row, col) - expected(row, col)).abs())
            .fold(0.0, f32::max)
    }

    #[test]
    fn a_composition_folds_to_the_weighted_sum_of_its_updates() {
        let [first, second] = members();
        let weights = [0.25, -1.5, 2.0];
        let update = compose(&[(0, &first), (2, &second)], &weights, false, 4.0, 0.0);
        let folded = update.fold();
        assert_eq!((folded.rank(), folded.scaling), (5, 1.0));
        let (one, two) = (first.update(), second.update());
        let sum = |row, col| 0.25 * one.get(row, col) + 2.0 * two.get(row, col);
        // Roundings of sums of five products of size 10.
        assert!(difference(&folded.update(), sum) < 1e-5);
    }

    #[test]
    fn one_update_with_weight_one_is_itself() {
        let [_, second] = members();
        let update = compose(&[(0, &second)], &[1.0], true, 1.0, 0.0);
        let expected = second.update();
        let found = update.fold().update();
        assert!(difference(&found, |row, col| expected.get(row, col)) < 1e-6);
    }

    #[test]
    fn weights_that_modules_share_are_counted_and_kept_once() {
        let [first, second] = members();
        for (is_shared, count) in [(true, 2), (false, 4)] {
            let update = |one: &LoraModule, two: &LoraModule| {
                compose(&[(0, one), (1, two)], &[0.5, 0.5], is_shared, 1.0, 0.0)
            };
            let updates = BTreeMap::from([
                ("a".to_owned(), update(&first, &second)),
                ("b".to_owned(), update(&second, &first)),
            ]);
            assert_eq!(trained_parameters(&updates), count);
            let values: crate::TrainedValues = updates
                .iter()
                .flat_map(|(path, update)| update.values(path))
                .collect();
            let sizes = values.values().map(|value| value.values.len());
            assert_eq!(sizes.sum::<usize>(), count);
        }
    }
}
