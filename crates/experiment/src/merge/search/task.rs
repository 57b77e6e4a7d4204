//! The task of an adapter: its head, its labels, its examples.

use std::num::NonZeroUsize;

use eigenmix_adapter::Prompts;
use eigenmix_data::metrics::{ClassificationMetrics, predicted_classes};
use eigenmix_data::{DataConfig, EncodedTargets, InputContract, LabelMap, Split, Targets};
use eigenmix_models::{HeadKind, is_of_text_tower};
use eigenmix_trainer::{
    BaseModel, Device, Inputs, LabelledExamples, TaskHead, TaskKind, TaskReader, ZeroShot,
};

use crate::BadInput;
use crate::ExperimentError;
use crate::error::Within;
use crate::image_labels::image_labels;
use crate::listener::Listener;
use crate::opened_adapter::OpenedAdapter;

/// The task of one of the merged adapters, on which a merged model is evaluated.
pub struct SearchTask {
    pub name: String,
    /// The directory of its data.
    pub data: String,
    pub head: TaskHead,
    pub labels: LabelMap,
    pub validation: TaskExamples,
    pub test: TaskExamples,
}

/// A split; its texts are tokenised once.
pub struct TaskExamples {
    pub inputs: Box<dyn Inputs>,
    /// The right output of the task's head, for each example.
    pub expected: Vec<usize>,
}

/// How the data are read.
pub struct TaskReading<'a> {
    pub base: &'a BaseModel,
    pub device: &'a Device,
    /// The columns.
    pub columns: &'a DataConfig,
    /// Zero-shot prompts, instead of those of the adapters.
    pub prompts: Option<&'a Prompts>,
    pub listener: &'a dyn Listener,
    /// How many validation rows are drawn.
    pub search_rows: Option<NonZeroUsize>,
    pub seed: u64,
}

impl SearchTask {
    /// The task of `adapter`, its examples in `data`.
    ///
    /// # Errors
    /// If the adapter has no classification head with known labels, a split is missing, or a row
    /// has a label that the head doesn't know.
    pub fn read(
        name: String,
        data: String,
        adapter: &OpenedAdapter,
        reading: &TaskReading,
    ) -> Result<Self, ExperimentError> {
        let location = adapter.file.location();
        let of_adapter = || format!("adapter `{location}` cannot be used in a search");
        let input = adapter.input()?;
        if input
            .contract()
            .and_then(InputContract::multi_label)
            .is_some()
        {
            let problem =
                "its rows may have several labels; a search compares accuracies of one label a row";
            return Err(BadInput(problem.to_owned())).within(of_adapter);
        }
        let limit = reading.base.architecture.max_length();
        let mut config = DataConfig {
            path: data.clone(),
            ..reading.columns.clone()
        };
        let input = adapter.input()?;
        input.fill(&mut config);
        if input.contract().is_none() {
            config.max_length = limit.unwrap_or(config.max_length);
        }
        let head = head(adapter, &config, reading).within(of_adapter)?;
        let Some(names) = &head.labels else {
            return Err(unlabelled(&head, reading.base)).within(of_adapter);
        };
        let labels = LabelMap::from_names(names.0.clone()).within(of_adapter)?;
        let of_task = || format!("the data of `{name}`");
        let scores = HeadKind::Classification {
            labels: labels.names().len(),
        };
        let kind = TaskKind::of_model(&reading.base.architecture, scores);
        let reader = kind.open(reading.base, &config, &[]).within(of_task)?;
        let targets = Targets::Classes(labels.clone());
        let read = |split, most| {
            TaskExamples::read(&*reader, split, &targets, most, reading).within(of_task)
        };
        let validation = read(Split::Validation, reading.search_rows)?;
        let test = read(Split::Test, None)?;
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

/// The head of the task: the adapter's own, or one made from prompts.
fn head(
    adapter: &OpenedAdapter,
    config: &DataConfig,
    reading: &TaskReading,
) -> Result<TaskHead, ExperimentError> {
    let file = &adapter.file;
    let Some(prompts) = reading.prompts.or(file.prompts()) else {
        if !TaskHead::is_in(reading.base, file) {
            let problem = "it has no classification head, and a search compares the accuracies of \
                           classifiers; merge language models without --search, and compare the \
                           merges with `eigenmix evaluate`";
            return Err(BadInput(problem.to_owned()).into());
        }
        return Ok(TaskHead::of(reading.base, file)?);
    };
    if let Some(module) = file.module_paths().find(|path| is_of_text_tower(path)) {
        return Err(BadInput(format!(
            "it adapts the text tower (`{module}`), so every merge would have its own head; a search needs the same head for all merges"
        ))
        .into());
    }
    let labels = match file.labels() {
        Some(names) => LabelMap::from_names(names.0.clone())?,
        None => image_labels(config, Split::Validation)?,
    };
    let zero_shot = ZeroShot::new(reading.base, prompts, &labels)?;
    Ok(zero_shot.head(reading.base, None, reading.device)?)
}

fn unlabelled(head: &TaskHead, base: &BaseModel) -> BadInput {
    BadInput(match head.outputs(base) {
        Some(1) => "its head has one output without a label, which is a regression; a search compares accuracies and needs classification heads".to_owned(),
        outputs => format!(
            "the {} outputs of its head have no labels; add a labels.json beside it",
            outputs.unwrap_or(0)
        ),
    })
}

impl TaskExamples {
    fn read(
        data: &dyn TaskReader,
        split: Split,
        targets: &Targets,
        most: Option<NonZeroUsize>,
        reading: &TaskReading,
    ) -> Result<Self, ExperimentError> {
        let found = data.sample(split, targets, most, reading.seed)?;
        for note in found.notes.iter().chain(&found.cut(split)) {
            reading.listener.note(note);
        }
        match found.examples.into_labelled() {
            Some(LabelledExamples {
                inputs,
                targets: EncodedTargets::Classes(expected),
                ..
            }) => Ok(Self { inputs, expected }),
            _ => Err(BadInput(format!("the {split} split of the data has no classes")).into()),
        }
    }

    pub fn len(&self) -> usize {
        self.expected.len()
    }

    /// The share of examples whose largest logit is the right one.
    ///
    /// - logits: `[examples, outputs]`
    ///
    /// # Errors
    /// If there are no examples.
    pub fn accuracy(&self, logits: &[f32], outputs: usize) -> Result<f64, ExperimentError> {
        let predicted = predicted_classes(logits, outputs);
        let counts = ClassificationMetrics::new(&predicted, &self.expected, outputs)?;
        Ok(counts.accuracy())
    }
}
