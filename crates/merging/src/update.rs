//! From a merged representation back to the update of a module.

use eigenmix_adapter::LoraModule;
use eigenmix_eigenlorax::decomposition::{
    DecompositionError, ThinSvd, product, to_f64, transposed_to_f64,
};
use eigenmix_tensors::Matrix;
use faer::Mat;

use crate::coordinates::Coordinates;
use crate::merged_svd::{MergedSvd, columns_to_f32};
use crate::options::MergeOptions;
use crate::space::{Frame, Side};
use crate::stack_basis::StackBasis;

/// A merged representation.
pub(crate) enum MergedRepresentation {
    /// Ambient sides in the coordinates of U or V.
    Coordinates(Mat<f64>),
    /// Every entry of the representation.
    Dense(Matrix),
}

/// The merged update of a module.
pub(crate) struct Update {
    /// `None` if ΔW is zero.
    pub(crate) module: Option<LoraModule>,
    pub(crate) rank: usize,
    /// The share of ‖ΔW‖² that was kept.
    pub(crate) energy_kept: f64,
    /// ‖ΔW‖ of what was kept, Frobenius.
    pub(crate) norm: f64,
}

impl Update {
    /// No update at all.
    pub(crate) const ZERO: Self = Self {
        module: None,
        rank: 0,
        energy_kept: 1.0,
        norm: 0.0,
    };

    /// `λ · H_L·τ·H_Rᵀ`, isotropized and truncated as the options say, as plain LoRA with scaling 1.
    ///
    /// # Errors
    /// If a decomposition doesn't converge, which finite values don't lead to.
    pub(crate) fn new(
        merged: MergedRepresentation,
        way: &WayBack<'_>,
    ) -> Result<Self, DecompositionError> {
        let scale = way.options.scale;
        match (merged, &way.frame.left, &way.frame.right) {
            (MergedRepresentation::Coordinates(tau), ..) => {
                way.of_coordinates(faer::Scale(scale) * tau)
            }
            (MergedRepresentation::Dense(tau), Side::Reduced { .. }, Side::Reduced { .. }) => {
                way.of_coordinates(faer::Scale(scale) * to_f64(&tau))
            }
            (MergedRepresentation::Dense(tau), ..) => way.of_dense(tau.scaled(scale as f32)),
        }
    }
}

/// The inputs of the way back from a merged representation.
pub(crate) struct WayBack<'a> {
    pub(crate) frame: &'a Frame,
    pub(crate) bases: &'a Coordinates,
    pub(crate) options: &'a MergeOptions,
    /// `Σ |w_t|·‖ΔW_t‖`.
    pub(crate) inputs: f64,
}

impl WayBack<'_> {
    fn of_coordinates(&self, tau: Mat<f64>) -> Result<Update, DecompositionError> {
        let (frame, bases) = (self.frame, self.bases);
        let rows = frame.left.synthesised(tau);
        let columns = frame.right.synthesised(rows.transpose().to_owned());
        let spectrum = MergedSvd::new(&bases.left, columns.transpose(), &bases.right)?;
        Ok(self.of_svd(spectrum))
    }

    /// Of a representation whose entries are there one by one, on at least one side those of ΔW.
    fn of_dense(&self, tau: Matrix) -> Result<Update, DecompositionError> {
        let size = tau.rows().min(tau.cols());
        if !self.options.isotropize && self.options.rank.is_none_or(|rank| rank >= size) {
            return Ok(self.of_rows(tau));
        }
        match (&self.frame.left, &self.frame.right) {
            (Side::Ambient, Side::Ambient) => Ok(self.of_svd(MergedSvd {
                left: None,
                right: None,
                svd: ThinSvd::new(to_f64(&tau).as_ref())?,
            })),
            // τᵀ = V'·C, so ΔW = U · H·Cᵀ · V'ᵀ.
            (left @ Side::Reduced { .. }, _) => {
                let right = StackBasis::new(transposed_to_f64(&tau))?;
                let coordinates = left.synthesised(right.coordinates.transpose().to_owned());
                let left = &self.bases.left;
                Ok(self.of_svd(MergedSvd::new(left, coordinates.as_ref(), &right)?))
            }
            // τ = U'·C, so ΔW = U' · C·Hᵀ · Vᵀ.
            (Side::Ambient, right @ Side::Reduced { .. }) => {
                let left = StackBasis::new(to_f64(&tau))?;
                let coordinates = right.synthesised(left.coordinates.transpose().to_owned());
                let right = &self.bases.right;
                Ok(self.of_svd(MergedSvd::new(&left, coordinates.transpose(), right)?))
            }
        }
    }

    fn of_svd(&self, mut spectrum: MergedSvd<'_>) -> Update {
        let WayBack { options, .. } = self;
        let inputs = options.scale.abs() * self.inputs;
        let energy_kept = spectrum.reduce(inputs, options.isotropize, options.rank);
        Update {
            module: (spectrum.rank() > 0).then(|| {
                let (b, a) = spectrum.factors();
                LoraModule::new(b, a, 1.0)
            }),
            rank: spectrum.rank(),
            energy_kept,
            norm: spectrum.norm(),
        }
    }

    /// τ itself as one factor, its rows (or columns) that are zero left out: nothing is lost, and
    /// nothing needs to be decomposed.
    fn of_rows(&self, tau: Matrix) -> Update {
        let (frame, bases) = (self.frame, self.bases);
        let is_transposed = match (&frame.left, &frame.right) {
            (Side::Ambient, Side::Reduced { .. }) => true,
            (Side::Ambient, Side::Ambient) => tau.cols() < tau.rows(),
            (Side::Reduced { .. }, _) => false,
        };
        let (side, basis, tau) = if is_transposed {
            (&frame.right, &bases.right, tau.transposed())
        } else {
            (&frame.left, &bases.left, tau)
        };
        let kept: Vec<usize> = (0..tau.rows())
            .filter(|&row| tau.row(row).iter().any(|&value| value != 0.0))
            .collect();
        let values = kept.iter().flat_map(|&row| tau.row(row)).copied().collect();
        let rows = Matrix::new(kept.len(), tau.cols(), values);
        let (columns, norm) = match side {
            Side::Ambient => {
                let unit = |row, col| f32::from(u8::from(row == kept[col]));
                let columns = Matrix::from_fn(tau.rows(), kept.len(), unit);
                (columns, rows.norm())
            }
            Side::Reduced { synthesis, .. } => {
                let synthesis = Mat::from_fn(synthesis.nrows(), kept.len(), |row, col| {
                    synthesis[(row, kept[col])]
                });
                let columns = columns_to_f32(&basis.times(&synthesis));
                (columns, norm_of_product(&synthesis, &rows))
            }
        };
        let (b, a) = if is_transposed {
            (rows.transposed(), columns.transposed())
        } else {
            (columns, rows)
        };
        Update {
            rank: kept.len(),
            module: (!kept.is_empty()).then(|| LoraModule::new(b, a, 1.0)),
            energy_kept: 1.0,
            norm,
        }
    }
}

/// `‖H·X‖`, of `[p, k]` and `[k, n]`, as the sum of the products of the entries of HᵀH and X·Xᵀ.
fn norm_of_product(left: &Mat<f64>, right: &Matrix) -> f64 {
    let right = to_f64(right);
    let left_gram = product(left.transpose(), left.as_ref());
    let right_gram = product(right.as_ref(), right.transpose());
    let entries = left_gram.col_iter().zip(right_gram.col_iter());
    entries
        .flat_map(|(left, right)| left.iter().zip(right.iter()))
        .map(|(left, right)| left * right)
        .sum::<f64>()
        .max(0.0)
        .sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factors::Factors;
    use crate::{Method, Space};

    /// A [7, 5] update of rank 3 with entries of no pattern.
    fn factors() -> Factors<'static> {
        let entry = |row: usize, col: usize| ((row * 31 + col * 17) % 11) as f32 - 5.0;
        let b = Matrix::from_fn(7, 3, entry);
        let a = Matrix::from_fn(3, 5, |row, col| entry(col + 2, row));
        Factors::Owned(LoraModule::new(b, a, 0.5))
    }

    /// No current space reduces the columns alone, but the way back supports it.
    #[test]
    fn a_representation_with_fewer_columns_finds_its_way_back() {
        let factors = factors();
        let update = factors.b.product(&factors.a).scaled(0.5);
        let bases = Coordinates::new(&[factors]).expect("finite values");
        let identity = Mat::<f64>::identity(3, 3);
        let frame = Frame {
            left: Side::Ambient,
            right: Side::Reduced {
                analysis: identity.clone(),
                synthesis: identity.clone(),
            },
        };
        // τ = ΔW·V.
        let v = bases.right.times(&identity);
        let tau = columns_to_f32(&product(to_f64(&update).as_ref(), v.as_ref()));
        for rank in [None, Some(2)] {
            let mut options = MergeOptions::new(Space::Core, Method::Sum);
            options.rank = rank;
            let way = WayBack {
                frame: &frame,
                bases: &bases,
                options: &options,
                inputs: update.norm(),
            };
            let merged =
                Update::new(MergedRepresentation::Dense(tau.clone()), &way).expect("finite values");
            let module = merged.module.expect("an update");
            assert_eq!(
                (module.rank(), merged.rank),
                (rank.unwrap_or(3), rank.unwrap_or(3))
            );
            assert!((module.update().norm() - merged.norm).abs() < 1e-5 * merged.norm);

            let svd = ThinSvd::new(to_f64(&update).as_ref()).expect("finite values");
            let difference = to_f64(&module.update()) - to_f64(&update);
            let lost = if rank.is_some() { svd.s[2] } else { 0.0 };
            assert!((difference.norm_l2() - lost).abs() < 1e-5 * svd.s[0]);
        }
    }
}
