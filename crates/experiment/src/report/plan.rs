//! The cells of an experiment, and the way from their results to its report, wherever they were
//! run.

use std::path::{Path, PathBuf};

use eigenmix_tensors::{FileError, write_file};
use eigenmix_trainer::{Outcome, Run};
use serde::{Deserialize, Serialize};

use super::{ArmReport, Failure, Report};
use crate::experiment::Experiment;
use crate::{BadInput, ExperimentError};

/// The cells of an experiment, as stored in its directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExperimentPlan {
    pub output: PathBuf,
    arms: Vec<ArmPlan>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ArmPlan {
    name: String,
    cells: Vec<CellPlan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    control_of: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct CellPlan {
    /// Its directory below the experiment's.
    name: String,
    seed: u64,
}

impl ExperimentPlan {
    const FILE_NAME: &str = "experiment.json";

    pub fn of(experiment: &Experiment) -> Self {
        let arms = experiment.arms.iter().map(|arm| ArmPlan {
            name: arm.name.clone(),
            control_of: arm.control_of.clone(),
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

    /// Writes it to the directory of the experiment.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), ExperimentError> {
        std::fs::create_dir_all(directory).map_err(FileError::io("create", directory))?;
        let text = serde_json::to_vec_pretty(self)?;
        Ok(write_file(&directory.join(Self::FILE_NAME), &text)?)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// If `directory` is not that of an experiment.
    pub fn read(directory: &Path) -> Result<Self, ExperimentError> {
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

    /// The adapter of the first finished seed of every arm that has one, by the arm's name.
    ///
    /// - directory: of the experiment
    ///
    /// # Errors
    /// If an outcome exists and cannot be read.
    pub fn adapters(&self, directory: &Path) -> Result<Vec<(String, PathBuf)>, ExperimentError> {
        let directories = [directory.to_owned()];
        let mut found = Vec::new();
        for arm in &self.arms {
            for cell in &arm.cells {
                let run = Run::at(directory.join(&cell.name));
                if outcome(&directories, cell)?.is_some() && run.adapter().is_dir() {
                    found.push((arm.name.clone(), run.adapter()));
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Whether both are plans of the same arms and seeds, whatever their directories.
    pub fn has_same_cells(&self, other: &Self) -> bool {
        self.arms == other.arms
    }

    fn cells(&self) -> impl Iterator<Item = &CellPlan> {
        self.arms.iter().flat_map(|arm| &arm.cells)
    }

    /// How many cells there are, and how many of them are finished in one of the directories.
    ///
    /// # Errors
    /// If an outcome exists and cannot be read.
    pub fn progress(&self, directories: &[PathBuf]) -> Result<(usize, usize), ExperimentError> {
        let (mut cells, mut finished) = (0, 0);
        for cell in self.cells() {
            cells += 1;
            finished += usize::from(outcome(directories, cell)?.is_some());
        }
        Ok((cells, finished))
    }

    /// The report of every cell that is finished, or failed, in one of the directories.
    ///
    /// # Errors
    /// If an outcome or a failure exists and cannot be read.
    pub fn collect(&self, directories: &[PathBuf]) -> Result<Report, ExperimentError> {
        let mut arms = Vec::new();
        for arm in &self.arms {
            arms.extend(arm.collect(directories)?);
        }
        Ok(Report {
            output: self.output.display().to_string(),
            arms,
        })
    }
}

impl ArmPlan {
    /// What was found of it; `None` if nothing was.
    fn collect(&self, directories: &[PathBuf]) -> Result<Option<ArmReport>, ExperimentError> {
        let (mut outcomes, mut failures) = (Vec::new(), Vec::new());
        for cell in &self.cells {
            match outcome(directories, cell)? {
                Some(outcome) => outcomes.push((cell.seed, outcome)),
                None => failures.extend(failure(directories, cell)?),
            }
        }
        Ok(match ArmReport::of(&self.name, &outcomes) {
            Some(report) => Some(ArmReport {
                failures,
                control_of: self.control_of.clone(),
                ..report
            }),
            None if failures.is_empty() => None,
            None => Some(ArmReport::failed(&self.name, failures)),
        })
    }
}

fn outcome(directories: &[PathBuf], cell: &CellPlan) -> Result<Option<Outcome>, ExperimentError> {
    for directory in directories {
        if let Some(outcome) = Run::at(directory.join(&cell.name)).outcome()? {
            return Ok(Some(outcome));
        }
    }
    Ok(None)
}

fn failure(directories: &[PathBuf], cell: &CellPlan) -> Result<Option<Failure>, ExperimentError> {
    for directory in directories {
        if let Some(failure) = Failure::read(directory, &cell.name)? {
            return Ok(Some(failure));
        }
    }
    Ok(None)
}
