//! Reading rows that have a label each.

use std::num::NonZeroUsize;

use eigenmix_data::{
    DataConfig, DataError, DataLocation, InputContract, Labelled, Split, TargetKind, Targets,
    TextTokenizer, draw_examples,
};

use super::{Inputs, LabelledExamples};
use crate::tasks::{SplitData, TaskReader};
use crate::{BaseModel, TrainerError};

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

    /// How rows become inputs.
    fn contract(&self, config: &DataConfig) -> InputContract;

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
    /// The labels of the base model's own head, in the order of its outputs.
    base_labels: Option<Vec<String>>,
}

impl<'a, S: LabelledSource> LabelledReader<'a, S> {
    /// # Errors
    /// If the data do not exist.
    pub fn new(source: S, config: &'a DataConfig, base: &BaseModel) -> Result<Self, TrainerError> {
        Ok(Self {
            source,
            config,
            location: DataLocation::open(config)?,
            base_labels: base.labels(),
        })
    }

    fn rows(&self, split: Split) -> Result<(Vec<S::Row>, Vec<String>), TrainerError> {
        let config = self.location.split(split)?;
        Ok(S::rows(split, &config)?)
    }

    /// The same labels in the order of the base model's own head, if it is for them: training then
    /// starts where the base model is.
    fn as_the_base_has_them(&self, targets: Targets, notes: &mut Vec<String>) -> Targets {
        let (Targets::Classes(labels), Some(of_base)) = (&targets, &self.base_labels) else {
            return targets;
        };
        if let Some(ordered) = labels.in_order_of(of_base) {
            if ordered.names() != labels.names() {
                notes.push(format!(
                    "the base model's head is for these {} labels already: training starts from it \
                     and keeps its order",
                    of_base.len()
                ));
            }
            return Targets::Classes(ordered);
        }
        let says_nothing = |(output, name): (usize, &String)| *name == format!("LABEL_{output}");
        let are_names = !of_base.iter().enumerate().all(says_nothing);
        let are_words = labels
            .names()
            .iter()
            .any(|name| name.parse::<i64>().is_err());
        if of_base.len() == labels.names().len() && are_names && are_words {
            notes.push(format!(
                "the base model's head is for other labels (`{}`, not `{}`); training starts from its \
                 weights all the same, as they are as many",
                of_base.join("`, `"),
                labels.names().join("`, `")
            ));
        }
        targets
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
            input: self.source.contract(self.config),
            chat_template: None,
        })
    }
}

impl<S: LabelledSource> TaskReader for LabelledReader<'_, S> {
    fn train(
        &self,
        target: TargetKind,
        seed: u64,
    ) -> Result<(SplitData, Option<Targets>), TrainerError> {
        let (rows, mut notes) = self.rows(Split::Train)?;
        let targets = Targets::from_train(target, &rows)?;
        let targets = self.as_the_base_has_them(targets, &mut notes);
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
