//! Adapters compared pair by pair.

use eigenmix_adapter::Source;
use eigenmix_charts::{Figure, HeatMap};
use eigenmix_eigenlorax::{Pairs, Similarity, similarity};
use serde::{Deserialize, Serialize};

use crate::adapter_argument::{OpenedAdapter, distinct_names};
use crate::failure::BadInput;

/// How much adapters have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) adapters: Vec<String>,
    #[serde(flatten)]
    pub(crate) similarity: Similarity,
}

impl Comparison {
    /// More adapters than this are neither compared nor legible.
    pub(crate) const MOST: usize = 48;

    /// Compares `adapters`, the first ones if there are many.
    ///
    /// # Errors
    /// If one cannot be read, or they are for different base models.
    pub(crate) fn of(adapters: &[OpenedAdapter]) -> anyhow::Result<Self> {
        let adapters = &adapters[..adapters.len().min(Self::MOST)];
        let files: Vec<_> = adapters.iter().map(|adapter| &adapter.file).collect();
        Ok(Self {
            adapters: distinct_names(adapters)?,
            similarity: similarity(&files)?,
        })
    }

    /// Compares the adapters that something was made of.
    ///
    /// # Errors
    /// If one of them is not to be found any more, is another one by now, or as [`Comparison::of`].
    pub(crate) fn of_sources(sources: &[Source]) -> anyhow::Result<Self> {
        let sources = &sources[..sources.len().min(Self::MOST)];
        let opened = sources.iter().map(|source| {
            let opened = OpenedAdapter::open(&source.location)?;
            match opened.file.source().sha256 == source.sha256 {
                true => Ok(opened),
                false => Err(BadInput(format!(
                    "`{}` is not the adapter any more that it was",
                    source.location
                ))
                .into()),
            }
        });
        Self::of(&opened.collect::<anyhow::Result<Vec<_>>>()?)
    }

    /// What to say where not all adapters are shown.
    pub(crate) fn note(&self, of: usize) -> Option<String> {
        let shown = self.adapters.len();
        (shown < of).then(|| format!("The first {shown} of {of} adapters are compared."))
    }

    pub(crate) fn figures(&self) -> Vec<Figure> {
        let Similarity {
            cosine,
            left_overlap,
            right_overlap,
        } = &self.similarity;
        vec![
            self.figure(
                "Cosine of the updates ΔW",
                "⟨ΔWᵢ, ΔWⱼ⟩ / (‖ΔWᵢ‖ ‖ΔWⱼ‖)",
                cosine,
            ),
            self.figure(
                "Overlap of the left subspaces (outputs)",
                "‖UᵢᵀUⱼ‖² / r, mean over the modules",
                left_overlap,
            ),
            self.figure(
                "Overlap of the right subspaces (inputs)",
                "‖VᵢᵀVⱼ‖² / r, mean over the modules",
                right_overlap,
            ),
        ]
    }

    fn figure(&self, caption: &str, title: &str, pairs: &Pairs) -> Figure {
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
