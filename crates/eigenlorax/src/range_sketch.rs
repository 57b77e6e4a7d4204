//! The best low-rank approximation of a matrix that is only seen through products with thin ones.
//!
//! A gradient G `[d_out, d_in]` is summed over a dataset and never has to be formed: the first pass
//! gives `Y = G · Ω` with a random Ω `[d_in, k]`, whose columns span nearly what the strongest columns of
//! G do; the second gives `H = Gᵀ · Q` with Q the orthonormal basis of Y, and Q · Hᵀ is G but for the little
//! that Q misses (the randomised range finder of arXiv 0909.4061, algorithms 4.1 and 5.1).

use eigenmix_adapter::LoraModule;
use eigenmix_tensors::Matrix;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::augmentation::stream_number;
use crate::decomposition::{DecompositionError, ThinQr, ThinSvd, product, to_f32, to_f64};

/// How many columns a sketch has beyond the rank that is wanted, for the accuracy of the last ones.
pub const OVERSAMPLING: usize = 8;

/// Ω: `[d_in, columns]`, independent standard normal numbers, the same for a module and a seed.
///
/// - columns: those of the sketch, at most the smaller side of the matrix
pub fn test_matrix(module: &str, d_in: usize, columns: usize, seed: u64) -> Matrix {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream_number(module, "sketch"));
    Matrix::from_fn(d_in, columns, |_, _| StandardNormal.sample(&mut random))
}

/// Q: `[d_out, k]`, orthonormal columns that span those of `sketch`, Y.
pub fn range_of(sketch: &Matrix) -> Matrix {
    to_f32(ThinQr::new(to_f64(sketch)).q().as_ref())
}

/// A matrix in its leading singular directions: `G ≈ U · diag(S) · Vᵀ`.
#[derive(Clone, Debug)]
pub struct LeadingPart {
    /// U: `[d_out, r]`.
    pub left: Matrix,
    /// S: r singular values, largest first.
    pub values: Vec<f64>,
    /// V: `[d_in, r]`.
    pub right: Matrix,
}

impl LeadingPart {
    /// The best approximation of rank `rank` that `range` allows.
    ///
    /// - range: Q `[d_out, k]`
    /// - seen: H = Gᵀ · Q `[d_in, k]`
    ///
    /// # Errors
    /// If the SVD doesn't converge, which finite values don't lead to.
    pub fn new(range: &Matrix, seen: &Matrix, rank: usize) -> Result<Self, DecompositionError> {
        // H = V · S · Pᵀ, so that G ≈ Q · Hᵀ = (Q · P) · S · Vᵀ.
        let small = ThinSvd::new(to_f64(seen).as_ref())?;
        let rank = rank.min(small.s.len());
        let left = product(to_f64(range).as_ref(), small.v.as_ref());
        Ok(Self {
            left: to_f32(left.as_ref().subcols(0, rank)),
            values: small.s[..rank].to_vec(),
            right: to_f32(small.u.as_ref().subcols(0, rank)),
        })
    }

    /// The update ΔW = factor · U · diag(S) · Vᵀ as a module of an adapter, its factors balanced.
    pub fn to_module(&self, factor: f32) -> LoraModule {
        let root = |place: usize| self.values[place].max(0.0).sqrt() as f32;
        let [d_out, rank] = self.left.shape();
        let b = Matrix::from_fn(d_out, rank, |row, col| {
            factor * self.left.get(row, col) * root(col)
        });
        let d_in = self.right.rows();
        let a = Matrix::from_fn(rank, d_in, |row, col| self.right.get(col, row) * root(row));
        LoraModule::new(b, a, 1.0)
    }

    /// ‖U · diag(S) · Vᵀ‖².
    pub fn energy(&self) -> f64 {
        self.values.iter().map(|value| value * value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix with singular values 8, 4, 2, 1 and a tail of 1e-3, in random directions.
    fn matrix(d_out: usize, d_in: usize) -> (Matrix, Vec<f64>) {
        let values = vec![8.0, 4.0, 2.0, 1.0, 1e-3, 1e-3];
        let basis = |rows, seed| range_of(&test_matrix("basis", rows, values.len(), seed));
        let (left, right) = (basis(d_out, 1), basis(d_in, 2));
        let sum = |row, col| {
            let terms = values.iter().enumerate();
            terms
                .map(|(k, value)| *value as f32 * left.get(row, k) * right.get(col, k))
                .sum()
        };
        (Matrix::from_fn(d_out, d_in, sum), values)
    }

    #[test]
    fn two_products_find_the_leading_part_of_a_matrix() {
        let (gradient, values) = matrix(37, 29);
        let omega = test_matrix("layer", 29, 3 + 2, 7);
        let range = range_of(&gradient.product(&omega));
        let part = LeadingPart::new(&range, &gradient.transposed().product(&range), 3).unwrap();
        for (found, expected) in part.values.iter().zip(&values) {
            assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
        }
        assert_eq!(part.values.len(), 3);
        let update = part.to_module(-1.0);
        let (b, a) = (&update.b, &update.a);
        let rest = b.product(a);
        let rest = Matrix::from_fn(37, 29, |row, col| {
            rest.get(row, col) + gradient.get(row, col)
        });
        // What is left of G is its fourth direction and the tail.
        assert!((rest.norm() - 1.0).abs() < 1e-3, "{}", rest.norm());
        assert!((part.energy() - 84.0).abs() < 1e-2);
    }

    #[test]
    fn the_norm_of_a_sketch_estimates_that_of_the_matrix() {
        let (gradient, values) = matrix(60, 50);
        let energy: f64 = values.iter().map(|value| value * value).sum();
        let mean: f64 = (0..40)
            .map(|seed| {
                let sketch = gradient.product(&test_matrix("layer", 50, 20, seed));
                sketch.norm().powi(2) / 20.0
            })
            .sum::<f64>()
            / 40.0;
        // One standard deviation of the mean of 40 is 4 % of it.
        assert!((mean / energy - 1.0).abs() < 0.15, "{mean} {energy}");
    }
}
