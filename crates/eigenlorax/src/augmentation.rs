//! Random columns beside the principal ones, for a new task that the recycled adapters don't span.

use faer::Mat;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::decomposition::{product, with_column};

/// Gaussian columns, orthonormalised against a basis.
///
/// Every side of every module has a random stream of its own, found from its name, so the columns
/// depend neither on the order of the modules nor on the number of threads.
pub(crate) struct Augmentation<'a> {
    /// How many columns to add, at most up to the width.
    pub columns: usize,
    pub seed: u64,
    /// The path of the module.
    pub module: &'a str,
    pub side: &'static str,
}

impl Augmentation<'_> {
    /// `[basis, random columns]`, at most as many columns as there are rows.
    pub fn extend(&self, mut basis: Mat<f64>) -> Mat<f64> {
        let d = basis.nrows();
        let target = (basis.ncols() + self.columns).min(d);
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(stream_number(self.module, self.side));
        while basis.ncols() < target {
            let candidate = Mat::from_fn(d, 1, |_, _| StandardNormal.sample(&mut random));
            // A candidate inside the basis, up to rounding, has probability zero: draw again.
            if let Some((direction, _)) = normalised(candidate, &basis) {
                basis = with_column(basis, &direction);
            }
        }
        basis
    }
}

/// The part of `vector` `[d, 1]` outside the orthonormal `basis` `[d, k]`, as a direction of length
/// 1 and its length before; `None` if all of it lies inside, up to rounding.
///
/// Gram–Schmidt, twice: the second pass removes the rounding of the first.
pub(crate) fn normalised(mut vector: Mat<f64>, basis: &Mat<f64>) -> Option<(Mat<f64>, f64)> {
    let length = vector.norm_l2();
    for _ in 0..2 {
        let inside = product(basis.transpose(), vector.as_ref());
        vector -= product(basis.as_ref(), inside.as_ref());
    }
    let outside = vector.norm_l2();
    if outside <= length * f64::EPSILON.sqrt() {
        return None;
    }
    vector
        .as_mut()
        .col_mut(0)
        .iter_mut()
        .for_each(|entry| *entry /= outside);
    Some((vector, outside))
}

/// The FNV-1a hash of `module/side`: the same on every machine and in every release.
pub(crate) fn stream_number(module: &str, side: &str) -> u64 {
    [module, "/", side]
        .iter()
        .flat_map(|part| part.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn augmentation(columns: usize, seed: u64, module: &str) -> Augmentation<'_> {
        Augmentation {
            columns,
            seed,
            module,
            side: "left",
        }
    }

    #[test]
    fn random_columns_are_orthonormal_to_the_basis_and_to_each_other() {
        let axis = Mat::from_fn(9, 1, |row, _| f64::from(row == 4));
        let extended = augmentation(5, 3, "layer").extend(axis);
        assert_eq!(extended.shape(), (9, 6));
        let gram = product(extended.transpose(), extended.as_ref());
        assert!((gram - Mat::<f64>::identity(6, 6)).norm_max() < 1e-14);
    }

    #[test]
    fn more_columns_than_the_width_are_not_added() {
        let extended = augmentation(50, 3, "layer").extend(Mat::zeros(7, 0));
        assert_eq!(extended.shape(), (7, 7));
    }

    #[test]
    fn seed_and_module_choose_the_columns() {
        let columns = |seed, module| augmentation(2, seed, module).extend(Mat::zeros(7, 0));
        assert_eq!(columns(1, "first"), columns(1, "first"));
        assert_ne!(columns(1, "first"), columns(2, "first"));
        assert_ne!(columns(1, "first"), columns(1, "second"));
    }

    #[test]
    fn a_vector_inside_the_basis_has_no_direction_outside() {
        let basis = augmentation(3, 0, "layer").extend(Mat::zeros(8, 0));
        let inside = product(
            basis.as_ref(),
            Mat::from_fn(3, 1, |row, _| row as f64 + 0.5).as_ref(),
        );
        assert!(normalised(inside, &basis).is_none());
    }
}
