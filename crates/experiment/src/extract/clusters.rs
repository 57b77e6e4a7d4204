//! From adapters that do not all belong together to a subspace for each group of them.

use std::time::Instant;

use eigenmix_adapter::AdapterFile;
use eigenmix_eigenlorax::{ClusterCount, Clusters, ExtractOptions, Extraction, SharedEnergy};
use eigenmix_tensors::write_directory;

use super::{ClustersSummary, ExtractRequest, ExtractionSummary, of_files, report_notes};
use crate::ExperimentError;
use crate::destination::Destination;
use crate::listener::Listener;

/// Groups the adapters, extracts a subspace of each group of two or more into `cluster-1`, `cluster-2`, … of
/// `request.out`, the largest group first, and names those that stand alone.
///
/// # Errors
/// If the adapters do not fit together, no two of them are in one group, or the output cannot be
/// written.
pub fn extract_clusters(
    request: &ExtractRequest,
    count: ClusterCount,
    listener: &dyn Listener,
) -> Result<ClustersSummary, ExperimentError> {
    let start = Instant::now();
    let options = request.options()?;
    let destination = Destination::new(&request.out, request.force)?;
    let adapters = destination.open_inputs(
        &request.adapters,
        request.base.as_deref(),
        request.allow_partial,
        request.names,
        listener,
    )?;
    let files: Vec<&AdapterFile> = adapters.iter().map(|adapter| &adapter.file).collect();
    count.check(files.len())?;
    let shared = SharedEnergy::of(&files, options.allow_base_mismatch)?;
    let clusters = Clusters::of(&shared, count)?;
    let extractions = clusters
        .groups
        .iter()
        .map(|group| of_group(group, &files, &options, listener))
        .collect::<Result<Vec<Extraction>, ExperimentError>>()?;
    write_directory(destination.path(), destination.force(), |directory| {
        for (index, extraction) in extractions.iter().enumerate() {
            let path = directory.join(cluster_name(index));
            extraction.subspace.save(&path, false)?;
        }
        Ok::<(), ExperimentError>(())
    })?;
    let members = |group: &[usize]| -> u64 {
        let adapters = group.iter().map(|&index| adapters[index].bytes());
        adapters.sum()
    };
    let summaries: Vec<ExtractionSummary> = extractions
        .into_iter()
        .zip(&clusters.groups)
        .enumerate()
        .map(|(index, (extraction, group))| {
            let Extraction { subspace, report } = extraction;
            report_notes(&report, request.names, listener);
            let path = request.out.join(cluster_name(index));
            ExtractionSummary::new(&path, &subspace, report, members(group))
        })
        .collect();
    let mut summary = ClustersSummary::new(request, &clusters, &shared, summaries);
    summary.seconds = start.elapsed().as_secs_f64();
    Ok(summary)
}

fn cluster_name(index: usize) -> String {
    format!("cluster-{}", index + 1)
}

/// The subspace of some of the adapters, weighted as they are among all.
fn of_group(
    group: &[usize],
    files: &[&AdapterFile],
    options: &ExtractOptions,
    listener: &dyn Listener,
) -> Result<Extraction, ExperimentError> {
    let files: Vec<&AdapterFile> = group.iter().map(|&index| files[index]).collect();
    let options = ExtractOptions {
        weights: Some(options.weights().of(group)),
        ..options.clone()
    };
    of_files(&files, &options, listener)
}
