//! An adapter merged into the weights of its base model: a checkpoint that needs no adapter.

mod base_checkpoint;
mod base_tensors;
mod decoding_note;
mod merge_plan;
mod merged_config;
mod merged_weight;
mod module_names;
mod output_layer;
use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::{Adapter, Companion, Labels, Provenance};
use eigenmix_data::TargetKind;
use eigenmix_tensors::{TensorOutput, write_directory, write_file, write_tensor_file};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use base_checkpoint::BaseCheckpoint;
use decoding_note::decoding_note;
pub use decoding_note::quantised_training_note;
use merge_plan::{Added, Edit, MergePlan};
use merged_config::merged_config;
use merged_weight::{EncodedTensor, merged_weight};

use crate::ExperimentError;
use crate::destination::Destination;

/// What a merge did.
#[derive(Debug, Serialize)]
pub struct BaseMergeReport {
    pub base: String,
    /// How many weights are now W₀ + ΔW.
    pub merged: usize,
    /// Tensors of the base model that the adapter brought in their trained state.
    pub replaced: Vec<String>,
    /// Tensors that the base model did not have.
    pub added: Vec<String>,
    /// How many tensors are as they were, bit for bit.
    pub copied: usize,
    /// What the names of the base model's tensors got in front, so that they go with the heads.
    pub prefix: Option<String>,
    /// What else is not as it was in the base model, and what to do about it.
    pub notes: Vec<String>,
}

/// Writes `base` with `adapter` merged into it: every adapted weight is W₀ + ΔW in the dtype that it
/// had, or that quantised weights are decoded to (with a DoRA magnitude m, `m ⊙ (W₀ + ΔW) / ‖W₀ + ΔW‖`), the adapter's heads and biases are in
/// place, and everything else is as it was.
///
/// - companions: tokenizer and chat template of the adapter, which take the place of the base model's
///
/// # Errors
/// Before anything is written, if the base model lacks an adapted module or has it in another shape.
pub fn merge_into_base(
    adapter: &Adapter,
    base: &BaseCheckpoint,
    provenance: &Provenance,
    companions: &[Companion],
    destination: &Destination,
) -> Result<BaseMergeReport, ExperimentError> {
    let plan = MergePlan::new(adapter, base)?;
    let config = merged_config(
        base.config(),
        adapter,
        target_of(provenance),
        plan.is_untied,
        plan.vocabulary,
    );
    let mut no_tokenizer = None;
    write_directory(destination.path(), destination.force(), |staging| {
        no_tokenizer = base.copy_companions(staging)?;
        for companion in companions {
            write_file(&staging.join(&companion.name), &companion.content)?;
        }
        write_file(&staging.join("config.json"), config.as_bytes())?;
        if let Some(labels) = &adapter.labels {
            labels.write(&staging.join(Labels::FILE_NAME))?;
        }
        let provenance = serde_json::to_string_pretty(provenance)?;
        let path = staging.join(Provenance::FILE_NAME);
        write_file(&path, format!("{provenance}\n").as_bytes())?;
        write_shards(&plan, base, staging)
    })?;
    let mut report = report(&plan, base);
    report.notes.extend(no_tokenizer.map(|problem| {
        format!("the tokenizer of the GGUF file cannot be written beside the weights: {problem}; take it from the model that the file was made of")
    }));
    Ok(report)
}

/// What the labels of the adapter's head are, if its input contract says that a row may have several;
/// one without the word is of single labels or of numbers.
fn target_of(provenance: &Provenance) -> Option<TargetKind> {
    let target = provenance.input.as_ref()?.get("target");
    target.and_then(|target| TargetKind::deserialize(target).ok())
}

/// Writes the files that the base model has, one after the other, so that the changed tensors of
/// only one are in memory.
fn write_shards(
    plan: &MergePlan<'_>,
    base: &BaseCheckpoint,
    staging: &Path,
) -> Result<(), ExperimentError> {
    let mut file_of = BTreeMap::new();
    let mut total_bytes = 0;
    let last = base.shards().len() - 1;
    for (index, shard) in base.shards().iter().enumerate() {
        let mut changed = changed_tensors(plan, base, &shard.names)?;
        if index == last {
            changed.extend(added_tensors(plan, base)?);
        }
        let mut tensors: Vec<TensorOutput<'_>> =
            changed.iter().map(EncodedTensor::output).collect();
        total_bytes += changed
            .iter()
            .map(|tensor| tensor.bytes.len())
            .sum::<usize>();
        let mut names: Vec<String> = changed.iter().map(|tensor| tensor.name.clone()).collect();
        let kept: Vec<&String> = shard.names.iter().filter(|name| plan.keeps(name)).collect();
        let kept = kept
            .into_par_iter()
            .map(|name| Ok((name, base.tensor(name)?, base.bytes(name)?)))
            .collect::<Result<Vec<_>, ExperimentError>>()?;
        for (name, (shape, dtype), bytes) in &kept {
            total_bytes += bytes.len();
            names.push(plan.name_in_result(name));
            tensors.push(TensorOutput::bytes(
                plan.name_in_result(name),
                shape.as_slice(),
                *dtype,
                bytes,
            ));
        }
        let file_name = &shard.file_name;
        write_tensor_file(&staging.join(file_name), tensors)?;
        file_of.extend(names.into_iter().map(|name| (name, file_name.clone())));
    }
    base.write_index(staging, &file_of, total_bytes)
}

/// The tensors of one file that are not as they were.
fn changed_tensors(
    plan: &MergePlan<'_>,
    base: &BaseCheckpoint,
    names: &[String],
) -> Result<Vec<EncodedTensor>, ExperimentError> {
    names
        .par_iter()
        .filter_map(|name| Some((name, plan.edits.get(name)?)))
        .map(|(name, edit)| {
            let (stored_shape, dtype) = base.tensor(name)?;
            let (shape, values) = match edit {
                Edit::Update(module) => {
                    let stored = base.read(name)?;
                    (
                        stored_shape,
                        merged_weight(stored, module, plan.orientation),
                    )
                }
                Edit::Table(trained) => {
                    let width = stored_shape.last().copied().unwrap_or_default();
                    let values = trained.values(width, || base.read(name))?;
                    let shape = trained
                        .start
                        .map_or(stored_shape, |start| start.shape.clone());
                    (shape, values)
                }
                Edit::Values(tensor) => (tensor.shape.clone(), tensor.values.clone()),
            };
            EncodedTensor::new(plan.name_in_result(name), shape, dtype, &values)
        })
        .collect()
}

fn added_tensors(
    plan: &MergePlan<'_>,
    base: &BaseCheckpoint,
) -> Result<Vec<EncodedTensor>, ExperimentError> {
    plan.added
        .iter()
        .map(|(name, added)| match added {
            Added::Values(tensor) => EncodedTensor::new(
                name.clone(),
                tensor.shape.clone(),
                plan.dtype,
                &tensor.values,
            ),
            Added::OfTable {
                table,
                trained,
                dtype,
            } => {
                let shape = match trained.start {
                    Some(start) => start.shape.clone(),
                    None => base.tensor(table)?.0,
                };
                let width = shape.last().copied().unwrap_or_default();
                let values = trained.values(width, || base.read(table))?;
                EncodedTensor::new(name.clone(), shape, *dtype, &values)
            }
        })
        .collect()
}

fn report(plan: &MergePlan<'_>, base: &BaseCheckpoint) -> BaseMergeReport {
    let replaced: Vec<String> = plan
        .edits
        .iter()
        .filter(|(_, edit)| match edit {
            Edit::Values(_) => true,
            Edit::Table(trained) => trained.update.is_none(),
            Edit::Update(_) => false,
        })
        .map(|(name, _)| plan.name_in_result(name))
        .collect();
    let names = base.tensor_names();
    let mut notes = plan.notes.clone();
    notes.extend(decoding_note(base));
    let kept = names.iter().filter(|name| plan.keeps(name)).count();
    BaseMergeReport {
        base: base.path().display().to_string(),
        merged: plan.edits.len() - replaced.len(),
        replaced,
        added: plan.added.keys().cloned().collect(),
        copied: kept,
        prefix: plan.prefix.clone(),
        notes,
    }
}
