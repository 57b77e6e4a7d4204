//! The task of an adapter: its head, its labels, its examples.

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Context;
use trainer::data::{
    DataConfig, EncodedTargets, LabelMap, LabelPolicy, Split, TargetKind, Targets, TextTokenizer,
    draw_examples, read_split,
};
use trainer::metrics::{ClassificationMetrics, predicted_classes};
use trainer::{BaseModel, Inputs, TaskHead};

use crate::adapter_argument::OpenedAdapter;
use crate::failure::BadInput;

/// What a merged model is measured on, for one of its adapters.
pub(crate) struct Task {
    pub(crate) name: String,
    /// The directory of its data.
    pub(crate) data: String,
    pub(crate) head: TaskHead,
    pub(crate) labels: LabelMap,
    pub(crate) validation: Examples,
    pub(crate) test: Examples,
}

/// A split, tokenized once.
pub(crate) struct Examples {
    pub(crate) inputs: Inputs,
    /// The output of the task's head that is right, for each.
    pub(crate) expected: Vec<usize>,
}

/// How the data are read.
pub(crate) struct Reading<'a> {
    pub(crate) base: &'a BaseModel,
    pub(crate) tokenizer: &'a TextTokenizer,
    /// The columns.
    pub(crate) columns: &'a DataConfig,
    /// How many validation rows are drawn.
    pub(crate) search_rows: Option<NonZeroUsize>,
    pub(crate) seed: u64,
}

impl Task {
    /// The task of `adapter`, its examples in `data`.
    ///
    /// # Errors
    /// If the adapter has no classification head with known labels, a split is missing, or a row
    /// has a label that the head doesn't know.
    pub(crate) fn read(
        name: String,
        data: String,
        adapter: &OpenedAdapter,
        reading: &Reading,
    ) -> anyhow::Result<Self> {
        let location = adapter.file.location();
        let of_adapter = || format!("adapter `{location}` cannot be scored");
        let head = TaskHead::of(reading.base, &adapter.file).with_context(of_adapter)?;
        let Some(names) = &head.labels else {
            return Err(unlabelled(&head, reading.base)).with_context(of_adapter);
        };
        let labels = LabelMap::from_names(names.0.clone()).with_context(of_adapter)?;
        let of_task = || format!("the data of `{name}`");
        let directory = Path::new(&data);
        let validation =
            Examples::read(directory, Split::Validation, &labels, reading).with_context(of_task)?;
        let test =
            Examples::read(directory, Split::Test, &labels, reading).with_context(of_task)?;
        Ok(Self {
            name,
            data,
            head,
            labels,
            validation,
            test,
        })
    }
}

fn unlabelled(head: &TaskHead, base: &BaseModel) -> BadInput {
    BadInput(match head.outputs(base) {
        Some(1) => "its head has one output without a label, which is a regression; a search compares accuracies and needs classification heads".to_owned(),
        outputs => format!(
            "nobody says what the {} outputs of its head stand for; write a labels.json beside it",
            outputs.unwrap_or(0)
        ),
    })
}

impl Examples {
    fn read(
        directory: &Path,
        split: Split,
        labels: &LabelMap,
        reading: &Reading,
    ) -> anyhow::Result<Self> {
        let mut rows = read_split(directory, split, reading.columns, LabelPolicy::Required)?;
        if let (Split::Validation, Some(most)) = (split, reading.search_rows) {
            let drawn = DataConfig {
                max_examples: Some(most.get()),
                ..reading.columns.clone()
            };
            rows = draw_examples(rows, &drawn, TargetKind::Classification, reading.seed)?;
        }
        let targets = Targets::Classes(labels.clone()).encode(&rows)?;
        let EncodedTargets::Classes(expected) = targets else {
            anyhow::bail!("classes were encoded as numbers");
        };
        let max_length = reading.base.max_length()?;
        Ok(Self {
            inputs: Inputs::Texts(reading.tokenizer.encode_all(&rows, max_length)?),
            expected,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.expected.len()
    }

    /// The part of the examples whose largest logit is the right one.
    ///
    /// - logits: `[examples, outputs]`
    ///
    /// # Errors
    /// If there are no examples.
    pub(crate) fn accuracy(&self, logits: &[f32], outputs: usize) -> anyhow::Result<f64> {
        let predicted = predicted_classes(logits, outputs);
        let counts = ClassificationMetrics::new(&predicted, &self.expected, outputs)?;
        Ok(counts.accuracy())
    }
}
