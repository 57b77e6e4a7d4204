//! From what the cells of an experiment left behind to its report, wherever they were run.

use std::path::{Path, PathBuf};

use eigenmix_tensors::{FileError, write_file};
use eigenmix_trainer::Outcome;
use serde::{Deserialize, Serialize};

use crate::commands::run::failure_path;
use crate::experiment::Experiment;
use crate::failure::BadInput;
use crate::report::{ArmReport, Failure, Report};

/// Which cells an experiment has, as it is kept in its directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExperimentPlan {
    pub(crate) output: PathBuf,
    arms: Vec<ArmPlan>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ArmPlan {
    name: String,
    cells: Vec<CellPlan>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct CellPlan {
    /// Its directory below the experiment's.
    name: String,
    seed: u64,
}

impl ExperimentPlan {
    const FILE_NAME: &str = "experiment.json";

    pub(crate) fn of(experiment: &Experiment) -> Self {
        let arms = experiment.arms.iter().map(|arm| ArmPlan {
            name: arm.name.clone(),
            cells: arm
                .cells
                .iter()
                .map(|cell| CellPlan {
                    name: cell.name.clone(),
                    seed: cell.seed,
                })
                .collect(),
        });
        Self {
            output: experiment.output.clone(),
            arms: arms.collect(),
        }
    }

    /// Leaves it in the directory of the experiment.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(directory).map_err(FileError::io("create", directory))?;
        let text = serde_json::to_vec_pretty(self)?;
        Ok(write_file(&directory.join(Self::FILE_NAME), &text)?)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// If `directory` is not that of an experiment.
    pub(crate) fn read(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(Self::FILE_NAME);
        let text = std::fs::read(&path).map_err(|error| {
            BadInput(format!(
                "`{}` is not the directory of an experiment: cannot read `{}`: {error}",
                directory.display(),
                path.display()
            ))
        })?;
        serde_json::from_slice(&text)
            .map_err(|error| BadInput(format!("`{}`: {error}", path.display())).into())
    }

    /// Whether both are plans of the same arms and seeds, wherever they are written.
    pub(crate) fn has_same_cells(&self, other: &Self) -> bool {
        self.arms == other.arms
    }

    fn cells(&self) -> impl Iterator<Item = &CellPlan> {
        self.arms.iter().flat_map(|arm| &arm.cells)
    }

    /// How many cells there are, and how many of them are finished in one of the directories.
    pub(crate) fn progress(&self, directories: &[PathBuf]) -> (usize, usize) {
        let finished = self
            .cells()
            .filter(|cell| outcome(directories, cell).is_some());
        (self.cells().count(), finished.count())
    }
}

/// The report of every cell that is finished, or failed, in one of the directories.
pub(crate) fn collect(plan: &ExperimentPlan, directories: &[PathBuf]) -> Report {
    let arm = |arm: &ArmPlan| {
        let outcomes = arm.cells.iter().filter_map(|cell| {
            let outcome = outcome(directories, cell)?;
            Some((cell.seed, outcome))
        });
        let outcomes: Vec<(u64, Outcome)> = outcomes.collect();
        let failures = arm
            .cells
            .iter()
            .filter(|cell| !outcomes.iter().any(|(seed, _)| *seed == cell.seed));
        let failures: Vec<Failure> = failures
            .filter_map(|cell| failure(directories, cell))
            .collect();
        match ArmReport::of(&arm.name, &outcomes) {
            Some(report) => Some(ArmReport { failures, ..report }),
            None if failures.is_empty() => None,
            None => Some(ArmReport::failed(&arm.name, failures)),
        }
    };
    Report {
        output: plan.output.display().to_string(),
        arms: plan.arms.iter().filter_map(arm).collect(),
    }
}

fn outcome(directories: &[PathBuf], cell: &CellPlan) -> Option<Outcome> {
    directories.iter().find_map(|directory| {
        let path = directory.join(&cell.name);
        // It may have been moved since.
        Outcome::read(&path).map(|outcome| Outcome {
            output: path,
            ..outcome
        })
    })
}

fn failure(directories: &[PathBuf], cell: &CellPlan) -> Option<Failure> {
    directories.iter().find_map(|directory| {
        let text = std::fs::read(failure_path(directory, &cell.name)).ok()?;
        serde_json::from_slice(&text).ok()
    })
}
