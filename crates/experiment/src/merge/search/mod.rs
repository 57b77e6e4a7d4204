//! The search of a merge's λ and parameters on the validation splits of its adapters' tasks.

mod evaluation;
mod page;
mod plan;
mod report;
mod request;
mod task;
mod task_data;
use eigenmix_adapter::{Adapter, AdapterFile};
use eigenmix_merging::{Merge, MergeError, MergeOptions, Method, Setting};
use eigenmix_trainer::{BaseModel, Device};

use self::evaluation::{SearchEvaluation, normalised_mean};
use self::report::{Parameters, SearchMeasurements};
use self::task::{SearchTask, TaskReading};
use crate::ExperimentError;
use crate::listener::Listener;
use crate::opened_adapter::OpenedAdapter;

pub(crate) use self::plan::{SearchPlan, grid};
pub use self::report::SearchReport;
pub use self::request::SearchRequest;
pub(crate) use self::task_data::assign;

/// The best merge.
pub(crate) struct Found {
    /// The options that give it.
    pub options: MergeOptions,
    pub merge: Merge,
    pub report: SearchReport,
}

/// Searches the setting with the best mean over the tasks of accuracy / own accuracy on their
/// validation splits, merges with it and evaluates the result on their test splits.
///
/// λ is a plain factor of every merge, so only the method's own parameters need another merge.
///
/// # Errors
/// If the data, a head or an adapter don't fit, or as merging fails.
pub(crate) fn search(
    adapters: &[OpenedAdapter],
    options: &MergeOptions,
    plan: SearchPlan,
    listener: &dyn Listener,
) -> Result<Found, ExperimentError> {
    let SearchPlan { grid, base, .. } = &plan;
    grid.check(options.method, adapters.len())?;
    let mut base_model = BaseModel::open(base)?;
    base_model.checkpoint.share_tensors();
    if let Some(note) = base_model.checkpoint.note() {
        listener.note(&note);
    }
    let device = plan.device.open()?;
    let tasks = read_tasks(
        adapters,
        &base_model,
        &device,
        options.seed,
        &plan,
        listener,
    )?;
    let evaluation = SearchEvaluation::new(
        &base_model,
        &tasks,
        device,
        plan.batch_size,
        plan.allow_partial,
    )?;
    let files: Vec<&AdapterFile> = adapters.iter().map(|adapter| &adapter.file).collect();
    let with = |setting: Setting| MergeOptions {
        method: setting.method,
        scale: setting.scale,
        ..options.clone()
    };
    let unscaled = |method: Method| -> Result<Unscaled, MergeError> {
        let options = with(Setting { method, scale: 1.0 });
        let adapter = eigenmix_merging::merge(&files, &options, &|_, _| {})?.adapter;
        Ok(Unscaled { method, adapter })
    };
    // Adapters that cannot be merged are refused before anything is evaluated.
    let mut last = Some(unscaled(grid.start(options.method).method)?);
    let (own_validation, own_test) = evaluation.own(adapters, listener)?;
    let mut trials = Vec::new();
    let outcome = {
        let progress = listener.progress("searching", grid.settings() * grid.rounds, "settings");
        eigenmix_merging::search(options.method, files.len(), grid, |setting| {
            let kept = last.take().filter(|last| last.method == setting.method);
            let mut merged = match kept {
                Some(merged) => merged,
                None => unscaled(setting.method)?,
            };
            let accuracies = evaluation.validation(merged.scaled(setting.scale))?;
            last = Some(merged);
            let score = normalised_mean(&accuracies, &own_validation);
            trials.push(accuracies);
            let words = format!("{}: {score:.4}", Parameters(setting));
            listener.detail(&words);
            progress.set(trials.len(), &words);
            Ok::<f64, ExperimentError>(score)
        })?
    };
    drop(last);
    let options = with(outcome.best.setting);
    let merge = eigenmix_merging::merge(&files, &options, &|_, _| {})?;
    let base_test = evaluation.base_alone(listener)?;
    let (test, joint) = evaluation.test(&merge.adapter, listener)?;
    let measured = SearchMeasurements {
        outcome,
        trials,
        own_validation,
        own_test,
        base_test,
        test,
        joint,
    };
    let locations: Vec<&str> = files.iter().map(|file| file.location()).collect();
    let report = SearchReport::new(&plan, &tasks, &locations, measured);
    Ok(Found {
        options,
        merge,
        report,
    })
}

/// A merge with λ = 1, from which that with any other λ follows.
struct Unscaled {
    method: Method,
    adapter: Adapter,
}

impl Unscaled {
    /// The merge with another λ.
    fn scaled(&mut self, scale: f64) -> &Adapter {
        // A merged adapter has scaling 1 in every module, so that λ is the only factor.
        for module in self.adapter.modules.values_mut() {
            module.scaling = scale as f32;
        }
        &self.adapter
    }
}

fn read_tasks(
    adapters: &[OpenedAdapter],
    base: &BaseModel,
    device: &Device,
    seed: u64,
    plan: &SearchPlan,
    listener: &dyn Listener,
) -> Result<Vec<SearchTask>, ExperimentError> {
    let names: Vec<String> = adapters.iter().map(|adapter| adapter.name(1)).collect();
    let directories = assign(&names, plan.data, plan.names)?;
    let reading = TaskReading {
        base,
        device,
        columns: &plan.columns,
        prompts: plan.prompts.as_ref(),
        listener,
        search_rows: plan.search_rows,
        seed,
    };
    let tasks = adapters
        .iter()
        .zip(told_apart_by_position(names))
        .zip(directories);
    tasks
        .map(|((adapter, name), data)| SearchTask::read(name, data, adapter, &reading))
        .collect()
}

/// The names, with their position behind those that occur more than once.
fn told_apart_by_position(names: Vec<String>) -> Vec<String> {
    let is_only = |name: &String| names.iter().filter(|other| *other == name).count() == 1;
    let places = names.iter().zip(1..);
    places
        .map(|(name, place)| match is_only(name) {
            true => name.clone(),
            false => format!("{name} ({place})"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_one_name_are_distinguished_by_their_positions() {
        let names = ["gym", "emotion", "emotion"].map(str::to_owned);
        let expected = ["gym", "emotion (2)", "emotion (3)"];
        assert_eq!(told_apart_by_position(names.to_vec()), expected);
    }
}
