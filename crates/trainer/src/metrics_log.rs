//! `metrics.jsonl`: a line a logged step and a line an evaluation.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::TrainerError;
use crate::data::Split;

/// A logged step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepRecord {
    /// Optimizer steps taken, this one included.
    pub step: usize,
    /// Epochs done, with the fraction of the one that is going on.
    pub epoch: f64,
    /// The mean training loss since the line before.
    pub loss: f64,
    pub learning_rate: f64,
    pub examples_per_second: f64,
    pub tokens_per_second: f64,
}

/// An evaluation of a whole split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluationRecord {
    pub step: usize,
    pub epoch: f64,
    pub split: Split,
    /// The mean loss over the split.
    pub loss: f64,
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
    pub examples_per_second: f64,
}

/// The file, open for appending.
pub(crate) struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Opens the log of `run`, cut to its first `bytes` bytes: what came after the checkpoint that
    /// a training resumes from is written again.
    ///
    /// # Errors
    /// If it cannot be opened, or is shorter than that.
    pub fn open(run: &Path, bytes: u64) -> Result<Self, TrainerError> {
        let path = run.join("metrics.jsonl");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(TrainerError::io("open", &path))?;
        let found = file
            .metadata()
            .map_err(TrainerError::io("read", &path))?
            .len();
        if found < bytes {
            let problem = format!("it has {found} bytes, its checkpoint knows of {bytes}");
            return Err(TrainerError::Checkpoint { path, problem });
        }
        file.set_len(bytes)
            .map_err(TrainerError::io("truncate", &path))?;
        file.seek(SeekFrom::End(0))
            .map_err(TrainerError::io("write", &path))?;
        Ok(Self { path, file })
    }

    pub fn write(&mut self, record: &impl Serialize) -> Result<(), TrainerError> {
        let mut line = serde_json::to_vec(record).map_err(|error| TrainerError::Io {
            action: "write",
            path: self.path.clone(),
            source: error.into(),
        })?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(TrainerError::io("write", &self.path))
    }

    /// How long the file is now.
    pub fn bytes(&mut self) -> Result<u64, TrainerError> {
        self.file
            .stream_position()
            .map_err(TrainerError::io("read", &self.path))
    }
}
