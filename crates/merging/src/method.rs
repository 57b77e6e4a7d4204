//! Methods: how representations become one.

use eigenmix_eigenlorax::decomposition::DecompositionError;
use faer::Mat;
use serde::{Deserialize, Serialize};

use crate::cart::Cart;
use crate::error::MergeError;
use crate::linear::Linear;
use crate::tsv::Tsv;

/// How the representations τ_t of T adapters, each times its weight, become one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Method {
    /// `Σ τ_t / T`.
    Average,
    /// `Σ τ_t`: task arithmetic (arXiv 2212.04089).
    Sum,
    /// The mean of those kept entries that agree with the elected sign (arXiv 2306.01708).
    Ties {
        /// The share of the entries of each τ_t that is kept, the largest by magnitude: (0, 1].
        density: f64,
    },
    /// Random entries dropped, the others divided by 1 − drop, summed (arXiv 2311.03099).
    Dare {
        /// The probability of an entry to be dropped: [0, 1).
        drop: f64,
    },
    /// DARE, then TIES instead of the sum.
    DareTies {
        /// The probability of an entry to be dropped: [0, 1).
        drop: f64,
        /// The share of the entries that TIES keeps, the dropped ones counted as zeros: (0, 1].
        density: f64,
    },
    /// The strongest singular triplets of each adapter, made orthonormal (arXiv 2412.00081).
    Tsv,
    /// The mean, and the low-rank part of what sets each adapter apart from it (arXiv 2412.12153).
    Cart {
        /// ρ: the share of the singular values of each deviation that is kept: (0, 1].
        rank_fraction: f64,
        /// λ_c: what the sum of the deviations is multiplied by.
        coefficient: f64,
    },
}

/// What a method needs to see of the representations.
pub(crate) enum Recipe {
    /// Whole matrices, in any orthonormal coordinates.
    Matrices(Box<dyn MatrixMethod>),
    /// Single entries.
    Entries(EntryMethod),
}

/// A method that depends on linear combinations and singular values only.
pub(crate) trait MatrixMethod: Sync {
    /// The merge of `tasks`, which are of one shape.
    ///
    /// `size` is the number of singular values of a representation, which is more than that of the
    /// matrices where these are coordinates of a low-rank one.
    ///
    /// # Errors
    /// If a decomposition doesn't converge, which finite values don't lead to.
    fn combine(&self, tasks: &[Mat<f64>], size: usize) -> Result<Mat<f64>, DecompositionError>;
}

/// A method that goes from entry to entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryMethod {
    /// DARE's probability; 0 drops nothing.
    pub(crate) drop: f64,
    /// TIES' density; without it entries are summed.
    pub(crate) density: Option<f64>,
}

impl Method {
    pub(crate) fn recipe(self) -> Recipe {
        match self {
            Self::Average => Recipe::Matrices(Box::new(Linear { divides: true })),
            // Dropping nothing leaves the sum, which needs no dense entries.
            Self::Sum | Self::Dare { drop: 0.0 } => {
                Recipe::Matrices(Box::new(Linear { divides: false }))
            }
            Self::Tsv => Recipe::Matrices(Box::new(Tsv)),
            Self::Cart {
                rank_fraction,
                coefficient,
            } => Recipe::Matrices(Box::new(Cart {
                rank_fraction,
                coefficient,
            })),
            Self::Ties { density } => Recipe::Entries(EntryMethod {
                drop: 0.0,
                density: Some(density),
            }),
            Self::Dare { drop } => Recipe::Entries(EntryMethod {
                drop,
                density: None,
            }),
            Self::DareTies { drop, density } => Recipe::Entries(EntryMethod {
                drop,
                density: Some(density),
            }),
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Average => "average",
            Self::Sum => "sum",
            Self::Ties { .. } => "ties",
            Self::Dare { .. } => "dare",
            Self::DareTies { .. } => "dare-ties",
            Self::Tsv => "tsv",
            Self::Cart { .. } => "cart",
        }
    }

    /// Whether it resolves a conflict, which one adapter doesn't have.
    fn needs_two(self) -> bool {
        match self {
            Self::Average | Self::Sum | Self::Dare { .. } => false,
            Self::Ties { .. } | Self::DareTies { .. } | Self::Tsv | Self::Cart { .. } => true,
        }
    }

    /// Refuses parameters out of their range, and too few adapters.
    pub(crate) fn check(self, adapters: usize) -> Result<(), MergeError> {
        match self {
            Self::Average | Self::Sum | Self::Tsv => {}
            Self::Ties { density } => check_density(density)?,
            Self::Dare { drop } => check_drop(drop)?,
            Self::DareTies { drop, density } => {
                check_drop(drop)?;
                check_density(density)?;
            }
            Self::Cart {
                rank_fraction,
                coefficient,
            } => {
                if !(rank_fraction > 0.0 && rank_fraction <= 1.0) {
                    return Err(MergeError::RankFraction {
                        found: rank_fraction,
                    });
                }
                if !coefficient.is_finite() {
                    return Err(MergeError::NotANumber {
                        what: "the coefficient of CART",
                        found: coefficient,
                    });
                }
            }
        }
        if adapters < 2 && self.needs_two() {
            return Err(MergeError::NeedsTwoAdapters {
                method: self.name(),
            });
        }
        Ok(())
    }
}

fn check_density(found: f64) -> Result<(), MergeError> {
    if found > 0.0 && found <= 1.0 {
        return Ok(());
    }
    Err(MergeError::Density { found })
}

fn check_drop(found: f64) -> Result<(), MergeError> {
    if (0.0..1.0).contains(&found) {
        return Ok(());
    }
    Err(MergeError::Drop { found })
}
