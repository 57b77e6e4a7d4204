//! The result of an extraction of several subspaces.

use std::fmt;

use eigenmix_eigenlorax::{Clusters, SharedEnergy};
use serde::Serialize;

use super::{ExtractRequest, ExtractionSummary};

/// The result of an extraction of several subspaces, for display and as JSON.
#[derive(Debug, Serialize)]
pub struct ClustersSummary {
    out: String,
    clusters: Vec<ClusterSummary>,
    /// Adapters in no cluster.
    outliers: Vec<Outlier>,
    pub seconds: f64,
}

/// A group of adapters and its subspace.
#[derive(Debug, Serialize)]
struct ClusterSummary {
    adapters: Vec<String>,
    /// The share of one adapter's ‖ΔW‖² in the directions of another, in the mean of the pairs.
    shared: f64,
    subspace: ExtractionSummary,
}

/// An adapter that stands alone.
#[derive(Debug, Serialize)]
struct Outlier {
    adapter: String,
    /// The adapter that it shares most with, how much, and how much random directions would hold.
    nearest: String,
    shared: f64,
    chance: f64,
}

impl ClustersSummary {
    pub(super) fn new(
        request: &ExtractRequest,
        clusters: &Clusters,
        energies: &SharedEnergy,
        subspaces: Vec<ExtractionSummary>,
    ) -> Self {
        let name = |index: usize| request.adapters[index].clone();
        let groups = clusters.groups.iter().zip(subspaces);
        Self {
            out: request.out.display().to_string(),
            clusters: groups
                .map(|(group, subspace)| ClusterSummary {
                    adapters: group.iter().map(|&index| name(index)).collect(),
                    shared: mean_of_pairs(group, &energies.share),
                    subspace,
                })
                .collect(),
            outliers: clusters
                .outliers
                .iter()
                .filter_map(|&index| {
                    let others = (0..request.adapters.len()).filter(|&other| other != index);
                    let share = |other: &usize| energies.share[index][*other];
                    let nearest = others.max_by(|a, b| share(a).total_cmp(&share(b)))?;
                    Some(Outlier {
                        adapter: name(index),
                        nearest: name(nearest),
                        shared: share(&nearest),
                        chance: energies.chance[index][nearest],
                    })
                })
                .collect(),
            seconds: 0.0,
        }
    }
}

fn mean_of_pairs(group: &[usize], shares: &[Vec<f64>]) -> f64 {
    let pairs = group.iter().enumerate().flat_map(|(place, &first)| {
        let later = group[place + 1..].iter();
        later.map(move |&second| shares[first][second])
    });
    let count = (group.len() * group.len().saturating_sub(1) / 2).max(1);
    pairs.sum::<f64>() / count as f64
}

impl fmt::Display for ClustersSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for cluster in &self.clusters {
            writeln!(formatter, "{}", cluster.subspace)?;
            writeln!(
                formatter,
                "  shared      {:.2} % of an adapter in the directions of another, on average",
                100.0 * cluster.shared
            )?;
            writeln!(formatter, "  adapters    {}\n", cluster.adapters.join(", "))?;
        }
        let count = self.clusters.len();
        write!(
            formatter,
            "`{}`: {count} {}, {}",
            self.out,
            if count == 1 { "cluster" } else { "clusters" },
            match self.outliers.len() {
                0 => "no outliers".to_owned(),
                1 => "1 outlier, in no subspace".to_owned(),
                several => format!("{several} outliers, in no subspace"),
            }
        )?;
        for outlier in &self.outliers {
            write!(
                formatter,
                "\n  {}: {:.2} % in the directions of its nearest, {} (by chance {:.2} %)",
                outlier.adapter,
                100.0 * outlier.shared,
                outlier.nearest,
                100.0 * outlier.chance
            )?;
        }
        Ok(())
    }
}
