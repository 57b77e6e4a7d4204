//! The options of an extraction.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::augmentation::Augmentation;
use crate::decomposition::DecompositionError;
use crate::error::EigenloraxError;
use crate::low_rank::LowRank;
use crate::weights::Weights;

/// The options of an extraction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtractOptions {
    /// The number of principal components to keep per side.
    pub components: Components,
    /// What the columns of the bases are.
    #[serde(default, skip_serializing_if = "SubspaceKind::is_columns")]
    pub kind: SubspaceKind,
    /// The form in which the factors of an adapter are stacked.
    #[serde(default)]
    pub factors: Factors,
    /// How much each adapter counts. Default: [`Weights::usual`].
    #[serde(default = "Weights::unsaid")]
    pub weights: Option<Weights>,
    /// Whether the mean column is subtracted first and kept as an extra component.
    #[serde(default)]
    pub center: bool,
    /// How many random columns are added to each side, orthonormal to the others.
    #[serde(default)]
    pub augment: usize,
    /// The seed of the random columns.
    #[serde(default)]
    pub seed: u64,
    /// Whether adapters that name different base models may go into one subspace.
    #[serde(default)]
    pub allow_base_mismatch: bool,
}

impl ExtractOptions {
    /// The random columns of one side of a module.
    pub(crate) fn augmentation<'a>(&self, module: &'a str, side: &'static str) -> Augmentation<'a> {
        Augmentation {
            columns: self.augment,
            seed: self.seed,
            module,
            side,
        }
    }

    /// How much each adapter counts.
    pub fn weights(&self) -> Weights {
        let given = self.weights.clone();
        given.unwrap_or_else(|| Weights::usual(self.factors))
    }

    /// Balanced factors, all adapters counting the same, not centred, nothing random.
    pub fn new(components: Components) -> Self {
        Self {
            components,
            kind: SubspaceKind::default(),
            factors: Factors::default(),
            weights: None,
            center: false,
            augment: 0,
            seed: 0,
            allow_base_mismatch: false,
        }
    }
}

/// How many principal components to keep.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Components {
    /// This many per side, or all if there are fewer.
    Count(usize),
    /// The fewest that explain this share, in (0, 1], of the variance of their side.
    Variance(f64),
    /// All: the sources can be reconstructed.
    All,
}

/// Directions with less than this share of the strongest one's energy are the rounding of f32 factors.
const ENERGY_FLOOR: f64 = 1e-14;

impl Components {
    /// The requested number, if it is a number.
    pub fn asked(self) -> Option<usize> {
        match self {
            Self::Count(count) => Some(count),
            Self::Variance(_) | Self::All => None,
        }
    }

    /// How many directions of these energies, strongest first, to keep: of those that are more than the
    /// rounding of f32 factors.
    pub fn of_energies(self, energies: &[f64]) -> usize {
        let strongest = energies.first().copied().unwrap_or(0.0);
        let available = energies
            .iter()
            .take_while(|&&energy| energy > ENERGY_FLOOR * strongest)
            .count();
        let energies = &energies[..available];
        self.chosen(energies, energies.iter().sum())
    }

    /// How many of the components with these variances, largest first, to keep out of a total
    /// variance of `total`.
    pub fn chosen(self, variances: &[f64], total: f64) -> usize {
        match self {
            Self::Count(count) => count.min(variances.len()),
            Self::All => variances.len(),
            Self::Variance(share) => {
                let mut carried = 0.0;
                let sufficient = variances.iter().position(|variance| {
                    carried += variance;
                    carried >= share * total
                });
                sufficient.map_or(variances.len(), |last| last + 1)
            }
        }
    }

    /// Refuses values out of range; every extraction does.
    ///
    /// # Errors
    /// [`EigenloraxError::NoComponents`] or [`EigenloraxError::VarianceShare`].
    pub fn check(self) -> Result<(), EigenloraxError> {
        match self {
            Self::Count(0) => Err(EigenloraxError::NoComponents),
            Self::Variance(share) if !(share > 0.0 && share <= 1.0) => {
                Err(EigenloraxError::VarianceShare { found: share })
            }
            _ => Ok(()),
        }
    }
}

/// What the columns of the bases are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SubspaceKind {
    /// Directions of the columns of ΔW, and of its rows.
    #[default]
    Columns,
    /// Whole factors, each of an adapter one vector: a new task has one number for each of them and side.
    Flattened,
}

impl SubspaceKind {
    pub(crate) fn is_columns(&self) -> bool {
        *self == Self::Columns
    }
}

impl FromStr for SubspaceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "columns" => Ok(Self::Columns),
            "flattened" => Ok(Self::Flattened),
            _ => Err(format!("`{text}` is neither `columns` nor `flattened`")),
        }
    }
}

/// The form in which the factors of one adapter and module are stacked, `ΔW = s·B·W·A`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Factors {
    /// `U·√S` and `V·√S` of `ΔW = U·S·Vᵀ`: the subspace depends on ΔW only.
    #[default]
    Balanced,
    /// `s·B·W` and `Aᵀ` as they are stored, as in the EigenLoRAx paper: scaling and mixer belong to
    /// the left side, and the subspace depends on how the adapter splits ΔW.
    Raw,
}

impl Factors {
    /// The columns of both sides: `[d_out, rank]` and `[d_in, rank]`.
    pub(crate) fn of(self, update: LowRank) -> Result<LowRank, DecompositionError> {
        match self {
            Self::Balanced => update.balanced(),
            Self::Raw => Ok(update),
        }
    }
}
