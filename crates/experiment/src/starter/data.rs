//! The content of a dataset: splits, columns, labels, lengths.

use std::path::Path;

use eigenmix_data::DataLocation;
use eigenmix_data::{DataConfig, Split, column_names};
use eigenmix_trainer::{LabelSurvey, LengthSurvey, TaskKind};

use super::FoundBase;
use crate::ExperimentError;
use crate::error::Within;

/// Pairs of columns that many datasets have, and then single ones.
const PAIRS: [[&str; 2]; 4] = [
    ["premise", "hypothesis"],
    ["sentence1", "sentence2"],
    ["question1", "question2"],
    ["text", "text_pair"],
];
const TEXTS: [&str; 9] = [
    "text",
    "sentence",
    "query",
    "utterance",
    "content",
    "review",
    "question",
    "title",
    "input",
];
const LABELS: [&str; 9] = [
    "label",
    "labels",
    "intent",
    "category",
    "class",
    "target",
    "score",
    "sentiment",
    "stars",
];
const IMAGES: [&str; 5] = ["image", "img", "photo", "picture", "path"];

/// A dataset that was examined.
pub struct FoundData {
    pub path: String,
    pub kind: TaskKind,
    /// Why that kind.
    pub reason: String,
    /// The `[data]` table that reads them.
    pub config: DataConfig,
    /// The number of rows of each existing split.
    pub splits: Vec<(Split, usize)>,
    pub columns: Vec<String>,
    pub labels: LabelSurvey,
    /// The tokens of the texts, if the base model's tokenizer could count them.
    pub lengths: Option<LengthSurvey>,
}

impl FoundData {
    /// Examines the data at `path`.
    ///
    /// # Errors
    /// If they have no training split, or it cannot be read.
    pub fn look(path: &str, base: Option<&FoundBase>) -> Result<Self, ExperimentError> {
        let plain = DataConfig::new(path);
        let location = DataLocation::open(&plain)?;
        let resolved = location.split(Split::Train)?;
        let is_vision = base.is_some_and(FoundBase::is_vision);
        let columns = column_names(Path::new(&resolved.path), Split::Train, &resolved);
        let columns = match columns {
            Err(_) if is_vision => Vec::new(),
            columns => columns?,
        };
        let mut found = Self {
            path: path.to_owned(),
            kind: TaskKind::SequenceClassification,
            reason: String::new(),
            config: plain.clone(),
            splits: Vec::new(),
            columns,
            labels: LabelSurvey::None,
            lengths: None,
        };
        if is_vision {
            found.choose_images();
        } else if base.is_some_and(FoundBase::is_vision_language) {
            found.kind = TaskKind::VisionLanguage;
            found.reason = "the base model is a vision-language model".to_owned();
        } else if !found.choose_texts(base) {
            found.kind = TaskKind::CausalLm;
            found.reason = "the columns are those of rows for a language model".to_owned();
        }
        found.read(&location, base).within(|| format!("`{path}`"))?;
        Ok(found)
    }

    fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|name| name == column)
    }

    fn first(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.has(name))
    }

    fn choose_images(&mut self) {
        self.kind = TaskKind::ImageClassification;
        self.reason = "the base model is a vision model".to_owned();
        if let Some(image) = self.first(&IMAGES) {
            self.config.image = image.to_owned();
        }
        if let Some(label) = self.first(&LABELS) {
            self.config.label = label.to_owned();
        }
    }

    /// Whether there are texts with labels.
    fn choose_texts(&mut self, base: Option<&FoundBase>) -> bool {
        let Some(label) = self.first(&LABELS) else {
            return false;
        };
        let pair = PAIRS
            .iter()
            .find(|pair| pair.iter().all(|name| self.has(name)));
        let text = match pair {
            Some([first, second]) => {
                self.config.text_pair = Some((*second).to_owned());
                first
            }
            None => match self.first(&TEXTS) {
                Some(text) => text,
                None => return false,
            },
        };
        self.config.text = text.to_owned();
        self.config.label = label.to_owned();
        self.reason = match base.is_some_and(FoundBase::is_decoder) {
            true => {
                "every row has a text and a label, which a decoder can learn to classify".into()
            }
            false => "every row has a text and a label".into(),
        };
        true
    }

    /// Reads each existing split.
    fn read(
        &mut self,
        location: &DataLocation<'_>,
        base: Option<&FoundBase>,
    ) -> Result<(), ExperimentError> {
        for split in [Split::Train, Split::Validation, Split::Test] {
            let resolved = match location.split(split) {
                Ok(resolved) => resolved,
                Err(error) if split == Split::Train => return Err(error.into()),
                Err(_) => continue,
            };
            let config = DataConfig {
                path: resolved.path.clone(),
                files: resolved.files.clone(),
                ..self.config.clone()
            };
            match self.count(split, &config, base) {
                Ok(rows) => self.splits.push((split, rows)),
                Err(error) if split == Split::Train => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn count(
        &mut self,
        split: Split,
        config: &DataConfig,
        base: Option<&FoundBase>,
    ) -> Result<usize, ExperimentError> {
        let base = base.map(|base| &base.model);
        let found = self.kind.definition().survey(split, config, base)?;
        if split == Split::Train {
            (self.labels, self.lengths) = (found.labels, found.lengths);
            if let LabelSurvey::Lists {
                separator: Some(separator),
                ..
            } = found.labels
            {
                self.config.label_separator = separator.to_owned();
            }
        }
        Ok(found.rows)
    }

    /// One line about them.
    pub fn summary(&self) -> String {
        let splits: Vec<String> = self
            .splits
            .iter()
            .map(|(split, rows)| format!("{rows} {split}"))
            .collect();
        let labels = match self.labels {
            LabelSurvey::Classes(count) => format!(", {count} classes"),
            LabelSurvey::Lists { labels, .. } => format!(", lists of {labels} labels"),
            LabelSurvey::Numbers => ", labels are numbers".to_owned(),
            LabelSurvey::None => String::new(),
        };
        let columns = match self.columns.is_empty() {
            true => "images in one folder per class".to_owned(),
            false => format!("columns {}", self.columns.join(", ")),
        };
        format!(
            "{}: {} rows; {columns}{labels}",
            self.path,
            splits.join(", ")
        )
    }
}
