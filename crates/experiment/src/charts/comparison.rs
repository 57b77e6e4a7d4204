//! Adapters compared pair by pair.

use eigenmix_adapter::Source;
use eigenmix_charts::{Figure, HeatMap};
use eigenmix_eigenlorax::{Pairs, Similarity, similarity};
use serde::{Deserialize, Serialize};

use crate::BadInput;
use crate::ExperimentError;
use crate::opened_adapter::{OpenedAdapter, distinct_names};

/// What adapters have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub adapters: Vec<String>,
    #[serde(flatten)]
    pub similarity: Similarity,
}

impl Comparison {
    /// The most adapters that are compared; a chart of more would not be legible.
    pub const MOST: usize = 48;

    /// Compares `adapters`, the first ones if there are many.
    ///
    /// # Errors
    /// If one cannot be read, or they are for different base models.
    pub fn of(adapters: &[OpenedAdapter]) -> Result<Self, ExperimentError> {
        let adapters = &adapters[..adapters.len().min(Self::MOST)];
        let files: Vec<_> = adapters.iter().map(|adapter| &adapter.file).collect();
        Ok(Self {
            adapters: distinct_names(adapters)?,
            similarity: similarity(&files)?,
        })
    }

    /// Compares the adapters that a subspace was extracted from.
    ///
    /// # Errors
    /// If one of them is missing or has changed since, or as [`Comparison::of`].
    pub fn of_sources(sources: &[Source]) -> Result<Self, ExperimentError> {
        let sources = &sources[..sources.len().min(Self::MOST)];
        let opened = sources.iter().map(|source| {
            let opened = OpenedAdapter::open(&source.location)?;
            match opened.file.source().sha256 == source.sha256 {
                true => Ok(opened),
                false => Err(BadInput(format!(
                    "`{}` has changed since it was recycled",
                    source.location
                ))
                .into()),
            }
        });
        Self::of(&opened.collect::<Result<Vec<_>, ExperimentError>>()?)
    }

    /// The note to print if not all adapters are shown.
    pub fn note(&self, of: usize) -> Option<String> {
        let shown = self.adapters.len();
        (shown < of).then(|| format!("The first {shown} of {of} adapters are compared."))
    }

    pub fn charts(&self) -> Vec<Figure> {
        let Similarity {
            cosine,
            left_overlap,
            right_overlap,
        } = &self.similarity;
        vec![
            self.heat_map(
                "Cosine of the updates ΔW",
                "⟨ΔWᵢ, ΔWⱼ⟩ / (‖ΔWᵢ‖ ‖ΔWⱼ‖)",
                cosine,
            ),
            self.heat_map(
                "Overlap of the left subspaces (outputs)",
                "‖UᵢᵀUⱼ‖² / r, mean over the modules",
                left_overlap,
            ),
            self.heat_map(
                "Overlap of the right subspaces (inputs)",
                "‖VᵢᵀVⱼ‖² / r, mean over the modules",
                right_overlap,
            ),
        ]
    }

    fn heat_map(&self, caption: &str, title: &str, pairs: &Pairs) -> Figure {
        let map = HeatMap {
            title: title.to_owned(),
            rows: self.adapters.clone(),
            columns: self.adapters.clone(),
            column_title: String::new(),
            values: pairs.clone(),
            range: None,
            has_trivial_diagonal: true,
        };
        map.figure(caption)
    }
}
