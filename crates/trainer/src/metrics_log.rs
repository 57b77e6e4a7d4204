//! `metrics.jsonl`: one line per logged step and per evaluation; and the same for TensorBoard.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use eigenmix_data::Split;
use eigenmix_tensors::FileError;
use serde::Serialize;

use crate::TrainerError;
use crate::run::Run;
use crate::tensorboard::EventFile;
use crate::training::ShownImage;

/// A logged step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepRecord {
    /// Optimizer steps taken, this one included.
    pub step: usize,
    /// Epochs done, with the fraction of the current one.
    pub epoch: f64,
    /// The mean training loss since the previous line.
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
    #[serde(serialize_with = "crate::metric_value::one::serialize")]
    pub loss: f64,
    /// By name; NaN is written as `"NaN"`.
    #[serde(flatten, serialize_with = "crate::metric_value::named::serialize")]
    pub metrics: BTreeMap<String, f64>,
    pub examples_per_second: f64,
}

/// The file, open for appending.
pub(crate) struct MetricsLog {
    path: PathBuf,
    /// `None` of a process that keeps no log.
    file: Option<File>,
    events: Option<EventFile>,
}

impl MetricsLog {
    /// That of a process whose training another one logs.
    pub fn elsewhere() -> Self {
        Self {
            path: PathBuf::new(),
            file: None,
            events: None,
        }
    }

    /// Opens the log of the run in `directory`, cut to its first `bytes` bytes: the lines after the
    /// checkpoint that a training resumes from are written again.
    ///
    /// # Errors
    /// If it cannot be opened, or is shorter than that.
    pub fn open(directory: &Path, bytes: u64) -> Result<Self, TrainerError> {
        let path = directory.join(Run::METRICS);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(FileError::io("open", &path))?;
        let found = file.metadata().map_err(FileError::io("read", &path))?.len();
        if found < bytes {
            let problem = format!("it has {found} bytes, fewer than the {bytes} of the checkpoint");
            return Err(TrainerError::Checkpoint { path, problem });
        }
        file.set_len(bytes)
            .map_err(FileError::io("truncate", &path))?;
        file.seek(SeekFrom::End(0))
            .map_err(FileError::io("write", &path))?;
        Ok(Self {
            path,
            file: Some(file),
            events: None,
        })
    }

    /// Also writes everything from here on to an event file for TensorBoard.
    ///
    /// - resumed: how many steps were taken before, if the training was resumed
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn with_events(mut self, run: &Path, resumed: Option<usize>) -> Result<Self, TrainerError> {
        self.events = Some(EventFile::create(run, resumed)?);
        Ok(self)
    }

    pub fn step(&mut self, record: &StepRecord) -> Result<(), TrainerError> {
        self.write(record)?;
        let values = [
            ("loss", record.loss),
            ("learning_rate", record.learning_rate),
            ("epoch", record.epoch),
            ("examples_per_second", record.examples_per_second),
            ("tokens_per_second", record.tokens_per_second),
        ];
        let values = values.into_iter();
        self.scalars(record.step, Split::Train, values)
    }

    pub fn evaluation(&mut self, record: &EvaluationRecord) -> Result<(), TrainerError> {
        self.write(record)?;
        let metrics = record.metrics.iter();
        let metrics = metrics.map(|(name, value)| (name.as_str(), *value));
        let values = [("loss", record.loss)].into_iter().chain(metrics);
        self.scalars(record.step, record.split, values)
    }

    /// Images that were made after a step, for TensorBoard.
    pub fn images(&mut self, step: usize, images: &[ShownImage]) -> Result<(), TrainerError> {
        let Some(events) = &mut self.events else {
            return Ok(());
        };
        for ShownImage { name, path, size } in images {
            let png = std::fs::read(path).map_err(FileError::io("read", path))?;
            events.image(step, &format!("samples/{name}"), *size, &png)?;
        }
        Ok(())
    }

    fn scalars<'a>(
        &mut self,
        step: usize,
        split: Split,
        values: impl Iterator<Item = (&'a str, f64)>,
    ) -> Result<(), TrainerError> {
        let Some(events) = &mut self.events else {
            return Ok(());
        };
        let scalars: Vec<(String, f64)> = values
            .map(|(name, value)| (format!("{}/{name}", split.name()), value))
            .collect();
        Ok(events.scalars(step, &scalars)?)
    }

    fn write(&mut self, record: &impl Serialize) -> Result<(), FileError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(record)
            .map_err(|error| FileError::io("write", &self.path)(error.into()))?;
        line.push(b'\n');
        file.write_all(&line)
            .map_err(FileError::io("write", &self.path))
    }

    /// How long the file is now.
    pub fn bytes(&mut self) -> Result<u64, FileError> {
        let Some(file) = &mut self.file else {
            return Ok(0);
        };
        file.stream_position()
            .map_err(FileError::io("read", &self.path))
    }
}
