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
