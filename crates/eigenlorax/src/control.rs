//! Bases that recycle nothing: what a recycled one has to beat.

use eigenmix_tensors::Matrix;
use faer::Mat;

use crate::augmentation::Augmentation;
use crate::basis::Basis;
use crate::decomposition::{DecompositionError, ThinQr, ThinSvd, product, to_f64};
use crate::range_sketch::{OVERSAMPLING, test_matrix};
use crate::subspace::ModuleSubspace;

/// How often the range of a weight is refined. The singular values of a trained weight fall slowly, and a
/// sketch alone would mix the leading directions with those after them.
const REFINEMENTS: usize = 4;

impl ModuleSubspace {
    /// Random orthonormal columns, the same for a module and a seed.
    ///
    /// - shape: `[d_out, d_in]` of the module
    /// - columns: p and q, at most the widths
    pub fn random(module: &str, shape: [usize; 2], columns: [usize; 2], seed: u64) -> Self {
        let side = |place: usize, side| {
            let random = Augmentation {
                columns: columns[place],
                seed,
                module,
                side,
            };
            let count = columns[place].min(shape[place]);
            let columns = random.extend(Mat::zeros(shape[place], 0));
            Basis::of_columns(columns.as_ref(), vec![0.0; count], 0.0)
        };
        Self::of_columns(side(0, "random left"), side(1, "random right"))
    }

    /// Random directions in the place of these bases, of the same kind.
    ///
    /// - columns: p and q, at most the widths
    pub fn random_instead(&self, module: &str, columns: [usize; 2], seed: u64) -> Self {
        let widths = [self.left.width(), self.right.width()];
        Self {
            flattened: self.flattened,
            ..Self::random(module, widths, columns, seed)
        }
    }

    /// The leading singular vectors of the frozen weight itself, W ≈ U · Σ · Vᵀ (LoRA-XS, arXiv 2405.17604),
    /// from a randomised range with refinements (arXiv 0909.4061, algorithm 4.4).
    ///
    /// - weight: W `[d_out, d_in]`
    /// - columns: p and q, at most the smaller width
    ///
    /// # Errors
    /// If the SVD doesn't converge, which finite values don't lead to.
    pub fn of_weight(
        module: &str,
        weight: &Matrix,
        columns: [usize; 2],
        seed: u64,
    ) -> Result<Self, DecompositionError> {
        let least = weight.rows().min(weight.cols());
        let columns = columns.map(|count| count.min(least));
        let most = (columns[0].max(columns[1]) + OVERSAMPLING).min(least);
        let (energy, weight) = (weight.norm().powi(2), to_f64(weight));
        let range = |matrix: Mat<f64>| ThinQr::new(matrix).q();
        let test = to_f64(&test_matrix(module, weight.ncols(), most, seed));
        let mut left = range(product(weight.as_ref(), test.as_ref()));
        for _ in 0..REFINEMENTS {
            let right = range(product(weight.transpose(), left.as_ref()));
            left = range(product(weight.as_ref(), right.as_ref()));
        }
        // W ≈ Q · Hᵀ with H = Wᵀ · Q = V · Σ · Pᵀ.
        let small = ThinSvd::new(product(weight.transpose(), left.as_ref()).as_ref())?;
        let left = product(left.as_ref(), small.v.as_ref());
        let side = |vectors: &Mat<f64>, count: usize| {
            let variance = small.s[..count].iter().map(|value| value.powi(2) as f32);
            Basis::of_columns(
                vectors.as_ref().subcols(0, count),
                variance.collect(),
                energy,
            )
        };
        Ok(Self::of_columns(
            side(&left, columns[0]),
            side(&small.u, columns[1]),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decomposition::deviation_from_orthonormal;

    #[test]
    fn random_columns_are_orthonormal_and_follow_from_module_and_seed() {
        let random = |module, seed| ModuleSubspace::random(module, [20, 12], [5, 30], seed);
        let one = random("query", 1);
        assert_eq!((one.left.columns(), one.right.columns()), (5, 12));
        for side in [&one.left, &one.right] {
            assert!(deviation_from_orthonormal(side.to_f64().as_ref()) < 1e-5);
        }
        assert_eq!(one, random("query", 1));
        assert_ne!(one.left, random("query", 2).left);
        assert_ne!(one.left, random("value", 1).left);
    }

    #[test]
    fn the_basis_of_a_weight_is_that_of_its_singular_value_decomposition() {
        // A full-rank weight with a slowly falling spectrum.
        let weight = test_matrix("weight", 40, 30, 3);
        let found = ModuleSubspace::of_weight("query", &weight, [4, 3], 0).unwrap();
        let exact = ThinSvd::new(to_f64(&weight).as_ref()).unwrap();
        assert_eq!((found.left.columns(), found.right.columns()), (4, 3));
        let captured = |basis: &Basis, exact: &Mat<f64>| {
            let count = basis.columns();
            let near = product(basis.to_f64().transpose(), exact.as_ref().subcols(0, count));
            near.squared_norm_l2() / count as f64
        };
        let sides = [
            captured(&found.left, &exact.u),
            captured(&found.right, &exact.v),
        ];
        assert!(sides.iter().all(|share| *share > 0.99), "{sides:?}");
        for (variance, value) in found.left.variance().iter().zip(&exact.s) {
            assert!((f64::from(*variance).sqrt() / value - 1.0).abs() < 1e-2);
        }
    }
}
