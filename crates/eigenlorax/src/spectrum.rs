//! The variance of each component of a subspace.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::basis::{Basis, kept_share};
use crate::subspace::{ModuleSubspace, Subspace};

/// The variances of one side of a module, without its vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spectrum {
    /// Of the principal components, the strongest first; the mean and random columns are left out.
    pub variance: Vec<f32>,
    /// The variance of all components together.
    pub total: f64,
}

/// How far variances of the same component may be apart, as a share of them.
const SAME_VARIANCE: f32 = 1e-3;

/// And as a share of the strongest one.
const KNOWN: f32 = 1e-6;

/// Both sides of a module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleSpectra {
    pub left: Spectrum,
    pub right: Spectrum,
}

impl Spectrum {
    pub fn of(basis: &Basis) -> Self {
        let mut variance = basis.principal_variance().to_vec();
        variance.sort_by(|first, second| second.total_cmp(first));
        Self {
            variance,
            total: basis.total_variance(),
        }
    }

    /// Whether it may be that of the same basis, computed on another machine.
    fn is_near(&self, other: &Self) -> bool {
        // The weakest components are known to no more than this share of the strongest.
        let floor = KNOWN * self.variance.first().copied().unwrap_or(0.0);
        let resolved = |spectrum: &Self| -> Vec<f32> {
            let variances = spectrum.variance.iter().copied();
            variances.take_while(|&value| value > floor).collect()
        };
        let (own, theirs) = (resolved(self), resolved(other));
        let is_close = |(own, theirs): (&f32, &f32)| {
            (own - theirs).abs() <= SAME_VARIANCE * own.max(*theirs) + floor
        };
        own.len() == theirs.len() && own.iter().zip(&theirs).all(is_close)
    }

    /// The share, 0 to 1, of the total variance that the components explain; 1 if there is none.
    pub fn kept(&self) -> f64 {
        kept_share(
            self.variance.iter().map(|&value| f64::from(value)).sum(),
            self.total,
        )
    }

    /// The share that the first component explains, the first two, and so on.
    pub fn cumulative(&self) -> Vec<f64> {
        let mut carried = 0.0;
        let variances = self.variance.iter();
        variances
            .map(|&value| {
                carried += f64::from(value);
                kept_share(carried, self.total)
            })
            .collect()
    }
}

impl ModuleSpectra {
    /// Whether they may be those of the same bases, computed on another machine: with other adapters, or
    /// adapters that count otherwise, the variances are others.
    pub fn is_near(&self, other: &Self) -> bool {
        self.left.is_near(&other.left) && self.right.is_near(&other.right)
    }

    pub fn of(module: &ModuleSubspace) -> Self {
        Self {
            left: Spectrum::of(&module.left),
            right: Spectrum::of(&module.right),
        }
    }
}

impl Subspace {
    /// The variances of every module.
    pub fn spectra(&self) -> BTreeMap<String, ModuleSpectra> {
        let modules = self.modules.iter();
        modules
            .map(|(path, module)| (path.clone(), ModuleSpectra::of(module)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spectra_are_near_up_to_rounding_and_not_where_adapters_count_otherwise() {
        let of = |variance: &[f32]| {
            let side = Spectrum {
                variance: variance.to_vec(),
                total: 10.0,
            };
            ModuleSpectra {
                left: side.clone(),
                right: side,
            }
        };
        let own = of(&[4.0, 1.0, 1e-7]);
        assert!(own.is_near(&of(&[4.0001, 0.9999, 3e-8])));
        assert!(own.is_near(&of(&[4.0, 1.0])));
        assert!(!own.is_near(&of(&[4.0, 1.1, 1e-7])));
        assert!(!own.is_near(&of(&[4.0])));
    }

    #[test]
    fn the_cumulative_shares_are_sums_over_the_total() {
        let spectrum = Spectrum {
            variance: vec![4.0, 2.0, 1.0],
            total: 8.0,
        };
        assert_eq!(spectrum.cumulative(), [0.5, 0.75, 0.875]);
        assert_eq!(spectrum.kept(), 0.875);
        let nothing = Spectrum {
            variance: vec![0.0],
            total: 0.0,
        };
        assert_eq!(nothing.cumulative(), [1.0]);
    }
}
