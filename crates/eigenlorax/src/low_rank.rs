//! A matrix held as the product of two thin factors, `ΔW = L · Rᵀ`, and what can be known about
//! it without ever forming it.

use eigenmix_adapter::LoraModule;
use faer::Mat;

use crate::decomposition::{
    DecompositionError, ThinQr, ThinSvd, dominant_entry, product, to_f64, transposed_to_f64,
};

/// Directions of ΔW weaker than this fraction of its strongest are the rounding of its f32
/// factors, not something that the adapter learned.
const RESOLUTION: f64 = f32::EPSILON as f64;

/// `L · Rᵀ`, of shape `[d_out, d_in]`.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// L: `[d_out, rank]`.
    pub left: Mat<f64>,
    /// R: `[d_in, rank]`.
    pub right: Mat<f64>,
}

impl LowRank {
    /// The update of a module, `L = s · B · W` and `R = Aᵀ`.
    pub fn of(module: &LoraModule) -> Self {
        let (b, a) = module.folded();
        Self {
            left: to_f64(&b),
            right: transposed_to_f64(&a),
        }
    }

    /// The number of columns of both factors.
    pub fn rank(&self) -> usize {
        self.left.ncols()
    }

    /// `L · Rᵀ = U · diag(S) · Vᵀ`, through the QR decompositions of both factors and the small
    /// SVD of `R_L · R_Rᵀ`. U is `[d_out, k]` and V `[d_in, k]` with k = min(rank, d_out, d_in).
    ///
    /// # Errors
    /// If the SVD doesn't converge, which finite values don't lead to.
    pub fn svd(&self) -> Result<ThinSvd, DecompositionError> {
        let left = ThinQr::new(self.left.clone());
        let right = ThinQr::new(self.right.clone());
        let core = product(left.r().as_ref(), right.r().transpose());
        let small = ThinSvd::new(core.as_ref())?;
        Ok(ThinSvd {
            u: left.q_times(small.u.as_ref()),
            s: small.s,
            v: right.q_times(small.v.as_ref()),
        })
    }

    /// The decomposition of [`LowRank::svd`] without the directions below f32 resolution: U
    /// `[d_out, k]` and V `[d_in, k]` are orthonormal bases of the columns and the rows of ΔW, and k
    /// is its rank.
    ///
    /// # Errors
    /// If the SVD doesn't converge, which finite values don't lead to.
    pub fn directions(&self) -> Result<ThinSvd, DecompositionError> {
        let ThinSvd { u, mut s, v } = self.svd()?;
        let strongest = s.first().copied().unwrap_or(0.0);
        let is_resolved = |value: &&f64| **value > RESOLUTION * strongest;
        let rank = s.iter().take_while(is_resolved).count();
        s.truncate(rank);
        let first =
            |vectors: Mat<f64>| Mat::from_fn(vectors.nrows(), rank, |row, col| vectors[(row, col)]);
        Ok(ThinSvd {
            u: first(u),
            s,
            v: first(v),
        })
    }

    /// The same matrix with its singular values shared evenly between the factors:
    /// `L = U · √S`, `R = V · √S`, the largest entry of every column of L positive.
    ///
    /// However an adapter was split into B · A, and (B·G) · (G⁻¹·A) is the same adapter for any
    /// invertible G, this form is the same. Directions below f32 resolution are dropped, so that
    /// the rank is that of ΔW.
    ///
    /// # Errors
    /// If the SVD doesn't converge, which finite values don't lead to.
    pub fn balanced(&self) -> Result<Self, DecompositionError> {
        let ThinSvd { u, s, v } = self.directions()?;
        let rank = s.len();
        let scales: Vec<f64> = (0..rank)
            .map(|column| {
                s[column]
                    .sqrt()
                    .copysign(dominant_entry(u.as_ref(), column))
            })
            .collect();
        let scaled = |vectors: Mat<f64>| {
            Mat::from_fn(vectors.nrows(), rank, |row, col| {
                vectors[(row, col)] * scales[col]
            })
        };
        Ok(Self {
            left: scaled(u),
            right: scaled(v),
        })
    }

    /// The Frobenius norm `‖L · Rᵀ‖ = ‖R_L · R_Rᵀ‖`, R_L and R_R from the QR decompositions.
    pub fn norm(&self) -> f64 {
        let left = ThinQr::new(self.left.clone()).r();
        let right = ThinQr::new(self.right.clone()).r();
        product(left.as_ref(), right.transpose()).norm_l2()
    }

    /// The difference of two matrices `[d_out, d_in]`: `[L₁, −L₂] · [R₁, R₂]ᵀ`.
    ///
    /// # Panics
    /// If their shapes differ.
    pub fn minus(&self, other: &Self) -> Self {
        let beside = |first: &Mat<f64>, second: &Mat<f64>, sign: f64| {
            assert_eq!(
                first.nrows(),
                second.nrows(),
                "a difference of unequal shapes"
            );
            let split = first.ncols();
            Mat::from_fn(first.nrows(), split + second.ncols(), |row, col| {
                if col < split {
                    first[(row, col)]
                } else {
                    sign * second[(row, col - split)]
                }
            })
        };
        Self {
            left: beside(&self.left, &other.left, -1.0),
            right: beside(&self.right, &other.right, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eigenmix_tensors::Matrix;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    fn module(seed: u64) -> LoraModule {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut factor =
            |rows, cols| Matrix::from_fn(rows, cols, |_, _| StandardNormal.sample(&mut random));
        LoraModule::new(factor(13, 4), factor(4, 9), 0.5)
    }

    fn dense(matrix: &LowRank) -> Mat<f64> {
        product(matrix.left.as_ref(), matrix.right.transpose())
    }

    #[test]
    fn balancing_keeps_the_matrix_and_shares_its_singular_values() {
        let update = LowRank::of(&module(0));
        let balanced = update.balanced().expect("finite values");
        assert!((dense(&balanced) - dense(&update)).norm_max() < 1e-12);
        let left_gram = product(balanced.left.transpose(), balanced.left.as_ref());
        let right_gram = product(balanced.right.transpose(), balanced.right.as_ref());
        assert!((left_gram - right_gram).norm_max() < 1e-12);
    }

    #[test]
    fn the_norm_through_the_factors_is_the_dense_norm() {
        let update = LowRank::of(&module(0));
        assert!((update.norm() - dense(&update).norm_l2()).abs() < 1e-12);
    }

    #[test]
    fn a_difference_of_factors_is_the_difference_of_the_matrices() {
        let (first, second) = (LowRank::of(&module(0)), LowRank::of(&module(1)));
        let difference = dense(&first.minus(&second));
        assert!((difference - (dense(&first) - dense(&second))).norm_max() < 1e-12);
        assert!(first.minus(&first).norm() < 1e-13 * first.norm());
    }

    #[test]
    fn a_direction_below_f32_resolution_is_dropped() {
        let mut b = module(0).b.values().to_vec();
        b.chunks_mut(4).for_each(|row| row[3] = row[0] * 2.0);
        let deficient = LoraModule::new(Matrix::new(13, 4, b), module(0).a, 1.0);
        let balanced = LowRank::of(&deficient).balanced().expect("finite values");
        assert_eq!(balanced.rank(), 3);
    }

    #[test]
    fn a_zero_update_has_no_direction() {
        let zero = LoraModule::new(Matrix::zeros(13, 4), module(0).a, 1.0);
        assert_eq!(
            LowRank::of(&zero).balanced().expect("finite values").rank(),
            0
        );
    }
}
