//! What grew when adapters came into a subspace, and what of them stays outside.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::SerializeStruct;

use crate::report::AdapterReport;

/// The report of an update.
#[derive(Clone, Debug, Serialize)]
pub struct GrowthReport {
    /// The adapters that came in, in the order in which they were taken in.
    pub adapters: Vec<AdapterGrowth>,
    /// The modules that the subspace did not have.
    pub new_modules: Vec<String>,
    /// Modules that the subspace does not have and no adapter changes: it still lacks them.
    pub left_out: Vec<String>,
}

/// What one adapter brought.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterGrowth {
    #[serde(flatten)]
    pub adapter: AdapterReport,
    /// By module, of those that the adapter has.
    pub growth: BTreeMap<String, ModuleGrowth>,
}

/// One module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ModuleGrowth {
    pub left: SideGrowth,
    pub right: SideGrowth,
}

/// One side of one module: squared norms of the adapter's columns X, ‖X‖², and of their part outside
/// the basis, ‖(I − UUᵀ)·X‖². In JSON the latter are shares of the former.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SideGrowth {
    /// How many columns the basis had when the adapter came.
    pub columns: usize,
    /// How many directions it has brought.
    pub added: usize,
    pub energy: f64,
    pub outside: f64,
    /// What is outside of the basis that has grown.
    pub remaining: f64,
}

impl SideGrowth {
    /// The share of ‖X‖² outside the basis before, 0 to 1; 0 if the adapter changes nothing here.
    pub fn residual_before(&self) -> f64 {
        share(self.outside, self.energy)
    }

    /// The same after.
    pub fn residual_after(&self) -> f64 {
        share(self.remaining, self.energy)
    }

    /// The sum over modules; the numbers of columns add up.
    pub fn sum<'a>(sides: impl IntoIterator<Item = &'a Self>) -> Self {
        sides.into_iter().fold(Self::default(), |sum, side| Self {
            columns: sum.columns + side.columns,
            added: sum.added + side.added,
            energy: sum.energy + side.energy,
            outside: sum.outside + side.outside,
            remaining: sum.remaining + side.remaining,
        })
    }
}

impl Serialize for SideGrowth {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut side = serializer.serialize_struct("SideGrowth", 4)?;
        side.serialize_field("columns", &self.columns)?;
        side.serialize_field("added", &self.added)?;
        side.serialize_field("residual_before", &self.residual_before())?;
        side.serialize_field("residual_after", &self.residual_after())?;
        side.end()
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl AdapterGrowth {
    /// The left sides of all modules together.
    pub fn left(&self) -> SideGrowth {
        SideGrowth::sum(self.growth.values().map(|module| &module.left))
    }

    /// The right sides of all modules together.
    pub fn right(&self) -> SideGrowth {
        SideGrowth::sum(self.growth.values().map(|module| &module.right))
    }

    /// In how many modules a side has grown.
    pub fn grown(&self) -> usize {
        let has_grown = |module: &&ModuleGrowth| module.left.added + module.right.added > 0;
        self.growth.values().filter(has_grown).count()
    }
}
