//! What to merge, and how: a `[[merge]]` table, or the flags of a command.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use eigenmix_merging::{KnotsRows, MergeOptions, Method, Scope, Space};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SearchRequest;
use crate::BadInput;
use crate::output_style::OutputFormat;

/// Merge adapters into one.
///
/// A space says in which coordinates the updates are compared, a method how they become one; every
/// pair works, and no dense update is formed where thin factors do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeRequest {
    /// The adapters, all for one base model.
    pub adapters: Vec<String>,
    /// Where to write the merged adapter: a new directory, or a .safetensors file of kohya or
    /// diffusers.
    #[serde(skip)]
    pub out: PathBuf,
    /// The coordinates: dense updates, the shared left basis (KnOTS) or both (Core Space).
    pub space: SpaceChoice,
    /// How the updates become one.
    pub method: MethodChoice,
    /// Make every direction of the merged update equally strong, as the last step.
    #[serde(default)]
    pub isotropize: bool,
    /// λ, which multiplies the result [default: 1].
    #[serde(default)]
    pub scale: Option<f64>,
    /// A weight for each adapter.
    #[serde(default)]
    pub weights: Option<Vec<f64>>,
    /// ties, dare-ties: the share of the entries that is kept, above 0 and up to 1 [default: 0.2].
    #[serde(default)]
    pub density: Option<f64>,
    /// dare, dare-ties: the probability of an entry to be dropped [default: 0.5].
    #[serde(default)]
    pub drop: Option<f64>,
    /// cart: the share of the singular values that is kept [default: 0.16].
    #[serde(default)]
    pub rank_fraction: Option<f64>,
    /// cart: what the deviations from the mean are multiplied by [default: 1].
    #[serde(default)]
    pub coefficient: Option<f64>,
    /// ties, dare-ties: take the largest entries of each module or of the whole model [default:
    /// model in the knots space, layer otherwise].
    #[serde(default)]
    pub scope: Option<ScopeChoice>,
    /// knots: merge the rows without their singular values, and multiply by these afterwards.
    #[serde(default)]
    pub unscaled_rows: bool,
    /// Truncate every module to its best approximation of this rank.
    #[serde(default)]
    pub rank: Option<NonZeroUsize>,
    /// The seed of dare.
    #[serde(default)]
    pub seed: u64,
    /// Go on although the adapters name different base models.
    #[serde(default)]
    pub allow_base_mismatch: bool,
    /// Go on although an adapter has tensors that are not used.
    #[serde(default)]
    pub allow_partial: bool,
    /// Replace what is there.
    #[serde(skip)]
    pub force: bool,
    /// The form of the adapter that is written.
    #[serde(skip)]
    pub format: OutputFormat,
    /// Search λ and the parameters of the method on the tasks of the adapters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SearchRequest")]
    pub search: Option<SearchRequest>,
}

/// The coordinates of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpaceChoice {
    Full,
    Knots,
    Core,
}

/// How updates become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MethodChoice {
    Average,
    Sum,
    Ties,
    Dare,
    DareTies,
    Tsv,
    Cart,
}

/// What TIES takes its top density of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScopeChoice {
    Layer,
    Model,
}

impl MergeRequest {
    /// The options that the request stands for.
    ///
    /// # Errors
    /// If a parameter does not belong to the method.
    pub fn options(&self) -> Result<MergeOptions, BadInput> {
        let method = self.method;
        let is_ties = matches!(method, MethodChoice::Ties | MethodChoice::DareTies);
        let is_dare = matches!(method, MethodChoice::Dare | MethodChoice::DareTies);
        let is_cart = method == MethodChoice::Cart;
        for (flag, is_given, belongs, owner) in [
            (
                "--density",
                self.density.is_some(),
                is_ties,
                "ties and dare-ties",
            ),
            (
                "--scope",
                self.scope.is_some(),
                is_ties,
                "ties and dare-ties",
            ),
            ("--drop", self.drop.is_some(), is_dare, "dare and dare-ties"),
            (
                "--rank-fraction",
                self.rank_fraction.is_some(),
                is_cart,
                "cart",
            ),
            ("--coefficient", self.coefficient.is_some(), is_cart, "cart"),
        ] {
            if is_given && !belongs {
                return Err(BadInput(format!("{flag} is for {owner} only")));
            }
        }
        if self.unscaled_rows && self.space != SpaceChoice::Knots {
            return Err(BadInput(
                "--unscaled-rows is for the knots space only".to_owned(),
            ));
        }
        let density = self.density.unwrap_or(0.2);
        let drop = self.drop.unwrap_or(0.5);
        let method = match method {
            MethodChoice::Average => Method::Average,
            MethodChoice::Sum => Method::Sum,
            MethodChoice::Ties => Method::Ties { density },
            MethodChoice::Dare => Method::Dare { drop },
            MethodChoice::DareTies => Method::DareTies { drop, density },
            MethodChoice::Tsv => Method::Tsv,
            MethodChoice::Cart => Method::Cart {
                rank_fraction: self.rank_fraction.unwrap_or(0.16),
                coefficient: self.coefficient.unwrap_or(1.0),
            },
        };
        let space = match self.space {
            SpaceChoice::Full => Space::Full,
            SpaceChoice::Knots => Space::Knots,
            SpaceChoice::Core => Space::Core,
        };
        let defaults = MergeOptions::new(space, method);
        Ok(MergeOptions {
            isotropize: self.isotropize,
            scale: self.scale.unwrap_or(1.0),
            weights: self.weights.clone(),
            scope: match self.scope {
                Some(ScopeChoice::Layer) => Scope::Layer,
                Some(ScopeChoice::Model) => Scope::Model,
                None => defaults.scope,
            },
            knots_rows: match self.unscaled_rows {
                true => KnotsRows::Unscaled,
                false => KnotsRows::ScaledBySigma,
            },
            rank: self.rank.map(Into::into),
            seed: self.seed,
            allow_base_mismatch: self.allow_base_mismatch,
            ..defaults
        })
    }
}
