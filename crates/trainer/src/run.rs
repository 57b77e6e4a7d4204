//! The directory of a run: which file of it holds what, and how it is read back.
//!
//! A training writes `config.toml`, `metrics.jsonl`, `checkpoints/`, then `adapter/` (or `model/`),
//! `coefficients.safetensors`, `basis.json` and at last `outcome.json`, which makes the run a finished
//! one. Writers and readers take every name from here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use eigenmix_tensors::FileError;
use serde_json::{Map, Value};

use crate::basis_record::BasisRecord;
use crate::outcome::Outcome;

/// Why a run cannot be read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    #[error(transparent)]
    File(#[from] FileError),

    #[error("`{path}` is not TOML: {}", .source.message())]
    NotToml {
        path: PathBuf,
        source: toml::de::Error,
    },

    #[error("`{path}`, line {line}, is not a JSON object: {source}")]
    Line {
        path: PathBuf,
        line: usize,
        source: serde_json::Error,
    },

    #[error(
        "`{path}` is damaged: {source}; start the run anew with --force, or take the file away to finish it"
    )]
    Damaged {
        path: PathBuf,
        source: serde_json::Error,
    },
}

/// A run by its directory, which need not be there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    path: PathBuf,
}

impl Run {
    /// The resolved configuration.
    pub const CONFIG: &str = "config.toml";
    /// A line for every logged step and every evaluation.
    pub const METRICS: &str = "metrics.jsonl";
    /// How the run ended; only a finished one has it.
    pub const OUTCOME: &str = "outcome.json";
    /// The sources of the subspace of the run.
    pub const BASIS: &str = "basis.json";
    /// The gradient of the task, where it is part of the basis.
    pub const GRADIENT: &str = "gradient";
    /// The start that the data chose, and by what losses.
    pub const START: &str = "start.json";
    /// The composition of adapters that the training started from.
    pub const COMPOSITION: &str = "composition";
    /// The trained adapter.
    pub const ADAPTER: &str = "adapter";
    /// In [`Run::ADAPTER`], the file of an adapter for a diffusion model, where diffusers looks for it.
    pub const PIPELINE_ADAPTER: &str = "pytorch_lora_weights.safetensors";
    /// The trained model, of full fine-tuning.
    pub const MODEL: &str = "model";
    /// Only what was trained, of methods with a basis.
    pub const COEFFICIENTS: &str = "coefficients.safetensors";
    pub const CHECKPOINTS: &str = "checkpoints";
    /// Images that a diffusion model made on the way, in a directory for each step.
    pub const SAMPLES: &str = "samples";
    /// Encoded images and captions of a diffusion model's training.
    pub const CACHE: &str = "cache";
    /// How the names of checkpoints begin; while one is written, it has another.
    pub(crate) const CHECKPOINT_PREFIX: &str = "step-";

    /// The directory of a step, among others.
    pub(crate) fn step_name(step: usize) -> String {
        format!("{}{step:08}", Self::CHECKPOINT_PREFIX)
    }

    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The directories of the images that were made on the way, by step.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn samples(&self) -> Result<BTreeMap<usize, PathBuf>, FileError> {
        let directory = self.path.join(Self::SAMPLES);
        if !directory.is_dir() {
            return Ok(BTreeMap::new());
        }
        let entries = fs::read_dir(&directory).map_err(FileError::io("read", &directory))?;
        let mut steps = BTreeMap::new();
        for entry in entries {
            let path = entry.map_err(FileError::io("read", &directory))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let step = name.and_then(|name| name.strip_prefix(Self::CHECKPOINT_PREFIX));
            if let Some(step) = step.and_then(|step| step.parse().ok()) {
                steps.insert(step, path);
            }
        }
        Ok(steps)
    }

    /// Whether `path` looks like a run.
    pub fn is_at(path: &Path) -> bool {
        path.join(Self::METRICS).is_file() || path.join(Self::CONFIG).is_file()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of the trained adapter.
    pub fn adapter(&self) -> PathBuf {
        self.path.join(Self::ADAPTER)
    }

    /// The file with only what was trained.
    pub fn coefficients(&self) -> PathBuf {
        self.path.join(Self::COEFFICIENTS)
    }

    /// What was trained, as the name of its directory: an adapter or a model; `None` before the end.
    pub fn result(&self) -> Option<&'static str> {
        [Self::ADAPTER, Self::MODEL]
            .into_iter()
            .find(|result| self.path.join(result).is_dir())
    }

    /// The names of the checkpoints, oldest first.
    pub fn checkpoints(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path.join(Self::CHECKPOINTS));
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(Self::CHECKPOINT_PREFIX))
            .collect();
        names.sort();
        names
    }

    /// The resolved configuration; an empty table of a run that has none.
    ///
    /// # Errors
    /// If it is there and cannot be read, or is not TOML.
    pub fn config(&self) -> Result<toml::Table, RunError> {
        let path = self.path.join(Self::CONFIG);
        let text = read_if_there(&path)?.unwrap_or_default();
        text.parse()
            .map_err(|source| RunError::NotToml { path, source })
    }

    /// The lines of `metrics.jsonl`; none if there is no such file.
    ///
    /// # Errors
    /// If it cannot be read. A last line that is not complete is left out: the run is still writing
    /// it, or was interrupted while it did.
    pub fn metrics(&self) -> Result<Vec<Map<String, Value>>, RunError> {
        let path = self.path.join(Self::METRICS);
        let text = read_if_there(&path)?.unwrap_or_default();
        let mut lines = Vec::new();
        let mut remaining = text.lines().enumerate().peekable();
        while let Some((index, line)) = remaining.next() {
            match serde_json::from_str(line) {
                Ok(values) => lines.push(values),
                Err(_) if remaining.peek().is_none() => {}
                Err(source) => {
                    let line = index + 1;
                    return Err(RunError::Line { path, line, source });
                }
            }
        }
        Ok(lines)
    }

    /// How the run ended; `None` of one that has not.
    ///
    /// # Errors
    /// If `outcome.json` is there and cannot be read.
    pub fn outcome(&self) -> Result<Option<Outcome>, RunError> {
        let path = self.path.join(Self::OUTCOME);
        let Some(text) = read_if_there(&path)? else {
            return Ok(None);
        };
        let outcome: Outcome =
            serde_json::from_str(&text).map_err(|source| RunError::Damaged { path, source })?;
        // It may have been moved since, or been written from elsewhere.
        Ok(Some(Outcome {
            output: self.path.clone(),
            ..outcome
        }))
    }

    /// The sources of the subspace; `None` if the method has no basis or an earlier release wrote
    /// the run.
    ///
    /// # Errors
    /// If `basis.json` is there and cannot be read.
    pub fn basis(&self) -> Result<Option<BasisRecord>, RunError> {
        let path = self.path.join(Self::BASIS);
        let Some(text) = read_if_there(&path)? else {
            return Ok(None);
        };
        let record = serde_json::from_str(&text);
        record
            .map(Some)
            .map_err(|source| RunError::Damaged { path, source })
    }
}

fn read_if_there(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::io("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_outcome_with_a_metric_that_is_nan_is_read_back() {
        let place = tempfile::tempdir().unwrap();
        let outcome = Outcome {
            output: place.path().to_owned(),
            steps: 7,
            test: Some(BTreeMap::from([
                ("accuracy".to_owned(), 0.5),
                ("pearson".to_owned(), f64::NAN),
            ])),
            ..Outcome::default()
        };
        outcome.write_to(place.path()).unwrap();
        let text = fs::read_to_string(place.path().join(Run::OUTCOME)).unwrap();
        assert!(text.contains(r#""pearson": "NaN""#), "{text}");
        for text in [text.clone(), text.replace("\"NaN\"", "null")] {
            fs::write(place.path().join(Run::OUTCOME), text).unwrap();
            let found = Run::at(place.path()).outcome().unwrap().unwrap();
            let metrics = found.test.unwrap();
            assert_eq!((found.steps, metrics["accuracy"]), (7, 0.5));
            assert!(metrics["pearson"].is_nan());
        }
    }

    #[test]
    fn what_is_no_checkpoint_is_not_listed_as_one() {
        let place = tempfile::tempdir().unwrap();
        for name in [".step-00000009.tmp", "step-00000004", "notes"] {
            fs::create_dir_all(place.path().join(Run::CHECKPOINTS).join(name)).unwrap();
        }
        assert_eq!(Run::at(place.path()).checkpoints(), ["step-00000004"]);
    }

    #[test]
    fn a_damaged_outcome_is_an_error_that_names_the_file() {
        let place = tempfile::tempdir().unwrap();
        let run = Run::at(place.path());
        assert!(run.outcome().unwrap().is_none());
        fs::write(place.path().join(Run::OUTCOME), "{\"output\": ").unwrap();
        let error = run.outcome().unwrap_err().to_string();
        assert!(error.contains("outcome.json` is damaged"), "{error}");
    }
}
