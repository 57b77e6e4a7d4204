//! Reading rows that have a label each.

use std::num::NonZeroUsize;

use eigenmix_data::{
    DataConfig, DataError, DataLocation, Labelled, Split, TargetKind, Targets, TextTokenizer,
    draw_examples,
};

use super::{Inputs, LabelledExamples};
use crate::TrainerError;
use crate::tasks::{SplitData, TaskReader};

/// One kind of rows, and how they become a model's inputs.
pub(in crate::tasks) trait LabelledSource {
    type Row: Labelled;

    /// The rows of a split, and notes about them.
    ///
    /// - config: with the directory and files of that split
    fn rows(split: Split, config: &DataConfig) -> Result<(Vec<Self::Row>, Vec<String>), DataError>;

    /// The rows as the model takes them.
    fn inputs(
        &self,
        rows: Vec<Self::Row>,
        config: &DataConfig,
    ) -> Result<Box<dyn Inputs>, TrainerError>;

    fn tokenizer(&self) -> Option<&TextTokenizer> {
        None
    }

    fn into_tokenizer(self) -> Option<TextTokenizer>
    where
        Self: Sized,
    {
        None
    }
}

/// How many outputs a head for the labels of a training split has.
///
/// - config: with the directory and files of that split
pub(in crate::tasks) fn count_labels<S: LabelledSource>(
    config: &DataConfig,
    target: TargetKind,
) -> Result<Option<usize>, TrainerError> {
    let (rows, _) = S::rows(Split::Train, config)?;
    Ok(Some(Targets::from_train(target, &rows)?.outputs()))
}

/// Reads the splits of labelled data.
pub(in crate::tasks) struct LabelledReader<'a, S> {
    source: S,
    config: &'a DataConfig,
    location: DataLocation<'a>,
}

impl<'a, S: LabelledSource> LabelledReader<'a, S> {
    /// # Errors
    /// If the data do not exist.
    pub fn new(source: S, config: &'a DataConfig) -> Result<Self, TrainerError> {
        Ok(Self {
            source,
            config,
            location: DataLocation::open(config)?,
        })
    }

    fn rows(&self, split: Split) -> Result<(Vec<S::Row>, Vec<String>), TrainerError> {
        let config = self.location.split(split)?;
        Ok(S::rows(split, &config)?)
    }

    fn examples(
        &self,
        rows: Vec<S::Row>,
        targets: &Targets,
        notes: Vec<String>,
    ) -> Result<SplitData, TrainerError> {
        let targets = targets.encode(&rows)?;
        let inputs = self.source.inputs(rows, self.config)?;
        Ok(SplitData {
            examples: Box::new(LabelledExamples { inputs, targets }),
            notes,
        })
    }
}

impl<S: LabelledSource> TaskReader for LabelledReader<'_, S> {
    fn train(
        &self,
        target: TargetKind,
        seed: u64,
    ) -> Result<(SplitData, Option<Targets>), TrainerError> {
        let (rows, notes) = self.rows(Split::Train)?;
        let targets = Targets::from_train(target, &rows)?;
        let rows = draw_examples(rows, self.config, target, seed)?;
        Ok((self.examples(rows, &targets, notes)?, Some(targets)))
    }

    fn split(&self, split: Split, targets: Option<&Targets>) -> Result<SplitData, TrainerError> {
        let (rows, notes) = self.rows(split)?;
        let targets = targets.ok_or(TrainerError::NoHead)?;
        if targets.are_hidden_in(&rows) {
            let rows = rows.len();
            return Err(DataError::HiddenLabels { split, rows }.into());
        }
        self.examples(rows, targets, notes)
    }

    fn sample(
        &self,
        split: Split,
        targets: &Targets,
        most: Option<NonZeroUsize>,
        seed: u64,
    ) -> Result<SplitData, TrainerError> {
        let drawn = self.config.drawing(most);
        let (rows, notes) = self.rows(split)?;
        let rows = draw_examples(rows, &drawn, TargetKind::Classification, seed)?;
        self.examples(rows, targets, notes)
    }

    fn tokenizer(&self) -> Option<&TextTokenizer> {
        self.source.tokenizer()
    }

    fn into_tokenizer(self: Box<Self>) -> Option<TextTokenizer> {
        self.source.into_tokenizer()
    }
}
