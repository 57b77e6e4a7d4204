//! A subspace: how many components it has, and how much of its sources' variance they explain.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use eigenmix_adapter::Source;
use eigenmix_eigenlorax::{Basis, ExtractOptions, ModuleSubspace, Subspace};
use eigenmix_experiment::ByteCount;
use serde::Serialize;

use super::listing::Listed;
use super::shapes::{ShapeCount, count_shapes};
use crate::layer_table::LayerTable;

#[derive(Serialize)]
pub(super) struct SubspaceSummary<'a> {
    kind: &'static str,
    location: String,
    base_model: Option<&'a str>,
    version: &'a str,
    options: &'a ExtractOptions,
    sources: &'a [Source],
    bytes: u64,
    shapes: Vec<ShapeCount>,
    /// The share of the sources' variance over all modules.
    left_variance_kept: f64,
    right_variance_kept: f64,
    modules: BTreeMap<&'a str, ModuleSummary>,
}

#[derive(Serialize)]
struct ModuleSummary {
    d_out: usize,
    d_in: usize,
    /// Of a flattened subspace the rank of the factors that its columns are.
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<usize>,
    left: BasisSummary,
    right: BasisSummary,
}

#[derive(Serialize)]
struct BasisSummary {
    columns: usize,
    principal: usize,
    has_mean: bool,
    augmented: usize,
    variance_kept: f64,
}

impl BasisSummary {
    fn of(basis: &Basis) -> Self {
        Self {
            columns: basis.columns(),
            principal: basis.principal(),
            has_mean: basis.has_mean(),
            augmented: basis.augmented(),
            variance_kept: basis.kept(),
        }
    }

    fn describe(&self) -> String {
        let mean = if self.has_mean { " + mean" } else { "" };
        let random = match self.augmented {
            0 => String::new(),
            augmented => format!(" + {augmented} random"),
        };
        format!("{}{mean}{random}", self.principal)
    }
}

impl<'a> SubspaceSummary<'a> {
    pub(super) fn new(path: &Path, subspace: &'a Subspace) -> Self {
        let modules: BTreeMap<&str, ModuleSummary> = subspace
            .modules
            .iter()
            .map(|(path, module)| {
                let [d_out, d_in] = module.shape();
                let summary = ModuleSummary {
                    d_out,
                    d_in,
                    rank: module.flattened.map(|flattened| flattened.rank),
                    left: BasisSummary::of(&module.left),
                    right: BasisSummary::of(&module.right),
                };
                (path.as_str(), summary)
            })
            .collect();
        Self {
            kind: "subspace",
            location: path.display().to_string(),
            base_model: subspace.base_model.as_deref(),
            version: &subspace.version,
            options: &subspace.options,
            sources: &subspace.sources,
            bytes: subspace.bytes() as u64,
            shapes: count_shapes(subspace.modules.values().map(ModuleSubspace::shape)),
            left_variance_kept: variance_kept(subspace, |module| &module.left),
            right_variance_kept: variance_kept(subspace, |module| &module.right),
            modules,
        }
    }

    /// The kinds of bases of one side, each once.
    fn components(&self, side: impl Fn(&ModuleSummary) -> &BasisSummary) -> String {
        let mut kinds: Vec<String> = Vec::new();
        for module in self.modules.values() {
            let kind = side(module).describe();
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds.join(" or ")
    }
}

/// Kept variance over total variance, of one side of all modules; 1 if there are none.
fn variance_kept(subspace: &Subspace, side: impl Fn(&ModuleSubspace) -> &Basis) -> f64 {
    let sides: Vec<&Basis> = subspace.modules.values().map(side).collect();
    let total: f64 = sides.iter().map(|basis| basis.total_variance()).sum();
    let kept: f64 = sides.iter().map(|basis| basis.kept_variance()).sum();
    if total > 0.0 {
        (kept / total).min(1.0)
    } else {
        1.0
    }
}

impl fmt::Display for SubspaceSummary<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "subspace `{}` of {}, extracted by eigenmix {}",
            self.location,
            self.base_model.unwrap_or("an unnamed base model"),
            self.version
        )?;
        writeln!(
            formatter,
            "  modules     {}: {}",
            self.modules.len(),
            Listed(&self.shapes)
        )?;
        writeln!(
            formatter,
            "  components  left {}, right {}",
            self.components(|module| &module.left),
            self.components(|module| &module.right)
        )?;
        let ranks: BTreeSet<usize> = { self.modules.values() }
            .filter_map(|module| module.rank)
            .collect();
        if !ranks.is_empty() {
            let ranks: Vec<String> = ranks.iter().map(usize::to_string).collect();
            writeln!(
                formatter,
                "  kind        flattened: whole factors of rank {}, for eigenlorax",
                ranks.join(" or ")
            )?;
        }
        writeln!(
            formatter,
            "  variance    left {:.2} % kept, right {:.2} %",
            100.0 * self.left_variance_kept,
            100.0 * self.right_variance_kept
        )?;
        writeln!(formatter, "  size        {}", ByteCount(self.bytes))?;
        for source in self.sources {
            let fingerprint: String = source.sha256.chars().take(12).collect();
            writeln!(
                formatter,
                "  source      `{}` (sha256 {fingerprint}…)",
                source.location
            )?;
        }
        for (title, side) in [("left", 0), ("right", 1)] {
            let kept = self
                .modules
                .iter()
                .map(|(&path, module)| {
                    let basis = [&module.left, &module.right][side];
                    (path.to_owned(), basis.variance_kept)
                })
                .collect();
            let table = LayerTable::new(&kept, |share| format!("{:.2} %", 100.0 * share));
            write!(
                formatter,
                "\nvariance kept on the {title}, by layer:\n{table}"
            )?;
            if title == "left" {
                writeln!(formatter)?;
            }
        }
        Ok(())
    }
}
