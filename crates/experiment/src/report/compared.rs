//! The recycled adapters of an experiment, compared set by set.

use eigenmix_adapter::Source;
use serde::Serialize;

use super::Report;
use crate::charts::Comparison;
use crate::message;

/// The comparisons, and what could not be compared.
#[derive(Default, Serialize)]
pub(super) struct Compared {
    pub(super) sets: Vec<ComparedSet>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
}

/// The adapters that some arms recycle.
#[derive(Serialize)]
pub(super) struct ComparedSet {
    pub(super) arms: Vec<String>,
    /// How many adapters there are.
    pub(super) of: usize,
    #[serde(flatten)]
    pub(super) comparison: Comparison,
}

impl Compared {
    /// Compares the sources of every subspace of `report`, each set once. Adapters that are no
    /// longer available leave a note.
    pub(super) fn of(report: &Report) -> Self {
        let mut sets: Vec<(&[Source], Vec<String>)> = Vec::new();
        for arm in &report.arms {
            let Some(subspace) = &arm.subspace else {
                continue;
            };
            let known = sets
                .iter_mut()
                .find(|(other, _)| *other == subspace.sources);
            match known {
                Some((_, arms)) => arms.push(arm.name.clone()),
                None => sets.push((&subspace.sources, vec![arm.name.clone()])),
            }
        }
        let mut compared = Self::default();
        for (sources, arms) in sets {
            match Comparison::of_sources(sources) {
                Ok(comparison) => compared.sets.push(ComparedSet {
                    arms,
                    of: sources.len(),
                    comparison,
                }),
                Err(error) => compared.notes.push(format!(
                    "the recycled adapters of {} are not compared: {}",
                    arms.join(", "),
                    message(&error)
                )),
            }
        }
        compared
    }
}
