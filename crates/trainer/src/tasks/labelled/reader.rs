//! Reading rows that have a label each.

use std::num::NonZeroUsize;

use eigenmix_data::{
    DataConfig, DataError, DataLocation, Fold, InputContract, LabelPolicy, Labelled, Split,
    TargetKind, Targets, TextTokenizer, draw_examples, note_on_separator,
};

use super::{Inputs, LabelLoss, LabelledExamples};
use crate::tasks::{SplitData, TaskReader, TrainRequest};
use crate::{BaseModel, TrainerError};

/// One kind of rows, and how they become a model's inputs.
pub(in crate::tasks) trait LabelledSource {
    type Row: Labelled;

    /// The rows of a split, and notes about them.
    ///
    /// - config: with the directory and files of that split
    /// - labels: what they have to have
    fn rows(
        split: Split,
        config: &DataConfig,
        labels: LabelPolicy,
    ) -> Result<(Vec<Self::Row>, Vec<String>), DataError>;

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
    let (rows, _) = S::rows(Split::Train, config, target.label_policy())?;
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

    fn rows(
        &self,
        split: Split,
        target: TargetKind,
    ) -> Result<(Vec<S::Row>, Vec<String>), TrainerError> {
        let config = self.location.split(split)?;
        let (rows, mut notes) = S::rows(split, &config, target.label_policy())?;
        if target == TargetKind::MultiLabel && split == Split::Train {
            notes.extend(note_on_separator(&rows, &config.label_separator));
        }
        Ok((rows, notes))
    }

    /// The same labels in the order of the base model's own head, if it is for them: training then
    /// starts where the base model is.
    fn as_the_base_has_them(&self, targets: Targets, notes: &mut Vec<String>) -> Targets {
        let (Some(labels), Some(of_base)) = (targets.labels(), &self.base_labels) else {
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
            return targets.with_labels(ordered);
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
        training: Option<&TrainRequest>,
        notes: Vec<String>,
    ) -> Result<SplitData, TrainerError> {
        let encoded = targets.encode(&rows)?;
        let loss = training.map(|request| LabelLoss::new(request, targets, &encoded));
        let examples = LabelledExamples {
            inputs: self.source.inputs(rows, self.config)?,
            loss: loss.transpose()?.unwrap_or_default(),
            targets: encoded,
        };
        Ok(SplitData {
            examples: Box::new(examples),
            notes,
            input: self.contract(targets),
            chat_template: None,
        })
    }

    /// How rows become inputs, and what the outputs mean where the head leaves it open.
    fn contract(&self, targets: &Targets) -> InputContract {
        let contract = self.source.contract(self.config);
        match targets {
            Targets::Labels { threshold, .. } => InputContract {
                target: Some(targets.kind()),
                threshold: Some(*threshold),
                label_separator: Some(self.config.label_separator.clone()),
                ..contract
            },
            _ => contract,
        }
    }
}

impl<S: LabelledSource> TaskReader for LabelledReader<'_, S> {
    fn train(&self, request: &TrainRequest) -> Result<(SplitData, Option<Targets>), TrainerError> {
        let target = request.task.target;
        let (rows, mut notes) = self.rows(Split::Train, target)?;
        let targets = Targets::from_train(target, &rows)?;
        let targets = targets.with_threshold(request.task.threshold.unwrap_or_default());
        let targets = self.as_the_base_has_them(targets, &mut notes);
        let mut rows = draw_examples(rows, self.config, target, request.seed)?;
        if let Some(fold) = self.config.fold {
            rows = fold.part(rows, target, request.seed)?.kept;
        }
        let split = self.examples(rows, &targets, Some(request), notes)?;
        Ok((split, Some(targets)))
    }

    fn held_out(
        &self,
        fold: Fold,
        request: &TrainRequest,
        targets: Option<&Targets>,
    ) -> Result<SplitData, TrainerError> {
        let targets = targets.ok_or(TrainerError::NoHead)?;
        // What there is to say of the rows was said of those to train on.
        let (rows, _) = self.rows(Split::Train, targets.kind())?;
        let rows = draw_examples(rows, self.config, targets.kind(), request.seed)?;
        let rows = fold.part(rows, targets.kind(), request.seed)?.held_out;
        self.examples(rows, targets, None, Vec::new())
    }

    fn split(&self, split: Split, targets: Option<&Targets>) -> Result<SplitData, TrainerError> {
        let targets = targets.ok_or(TrainerError::NoHead)?;
        let (rows, notes) = self.rows(split, targets.kind())?;
        if targets.are_hidden_in(&rows) {
            let rows = rows.len();
            return Err(DataError::HiddenLabels { split, rows }.into());
        }
        self.examples(rows, targets, None, notes)
    }

    fn sample(
        &self,
        split: Split,
        targets: &Targets,
        most: Option<NonZeroUsize>,
        seed: u64,
    ) -> Result<SplitData, TrainerError> {
        let drawn = self.config.drawing(most);
        let (rows, notes) = self.rows(split, targets.kind())?;
        let rows = draw_examples(rows, &drawn, targets.kind(), seed)?;
        self.examples(rows, targets, None, notes)
    }

    fn tokenizer(&self) -> Option<&TextTokenizer> {
        self.source.tokenizer()
    }

    fn into_tokenizer(self: Box<Self>) -> Option<TextTokenizer> {
        self.source.into_tokenizer()
    }
}
