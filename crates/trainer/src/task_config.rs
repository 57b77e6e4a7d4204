//! The `[task]` table of a training file, and what in the file does not go with it.

use eigenmix_adapter::Prompts;
use eigenmix_data::metrics::Metric;
use eigenmix_data::{ClassWeights, TargetKind, Threshold};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{ABOVE_ZERO, TrainConfig};
use crate::{TaskKind, TrainerError};

/// The `[task]` table: what the model learns to predict, and how it is evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskConfig {
    /// The kind of task.
    pub kind: TaskKind,
    /// What labels are: "class", "labels" where a row has a list of any number of them, or "number" for
    /// a regression such as STS-B.
    pub target: TargetKind,
    /// With `target = "labels"`: the probability from which on a label counts as predicted.
    /// Default: 0.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
    /// How much the examples of each label count in the training loss: "balanced", or a table of
    /// label and weight. With `target = "labels"` it is the weight of a label's positives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// The metrics that evaluations report; the first one decides which checkpoint is best.
    /// Default: accuracy for classes, micro and macro F1 for lists of labels, Pearson and Spearman
    /// correlation for numbers, perplexity for language models, the denoising loss for diffusion models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// Prompts for CLIP's zero-shot head, with {} in the place of the label, such as "a photo of a
    /// {}.". Their text features are the classifier; no head is trained.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<String>,
}

impl TaskConfig {
    /// The prompts of a zero-shot head; `None` if there are none and the head is trained.
    ///
    /// # Errors
    /// If one does not contain {}.
    pub fn prompts(&self) -> Result<Option<Prompts>, TrainerError> {
        match self.prompts.is_empty() {
            true => Ok(None),
            false => Prompts::new(self.prompts.clone())
                .map(Some)
                .map_err(TrainerError::Prompts),
        }
    }
}

impl Default for TaskConfig {
    fn default() -> Self {
        Self {
            kind: TaskKind::default(),
            target: TargetKind::Classification,
            threshold: None,
            class_weights: None,
            metrics: Vec::new(),
            prompts: Vec::new(),
        }
    }
}

impl TrainConfig {
    /// An error for every value that does not go with what is learnt.
    pub(crate) fn task_problems(&self) -> Vec<TrainerError> {
        let rules = [
            self.validate_target(),
            self.validate_weights(),
            self.validate_smoothing(),
            self.validate_prompts(),
        ];
        rules.into_iter().filter_map(Result::err).collect()
    }

    /// A language model has no labels, and only lists of labels have a threshold.
    fn validate_target(&self) -> Result<(), TrainerError> {
        let task = &self.task;
        let is_language_model = task.kind.is_of_language_models();
        if is_language_model && task.target != TargetKind::Classification {
            let reason = "a language model predicts tokens; leave task.target out";
            return Err(self.setting("task.target", reason));
        }
        if task.threshold.is_some() && task.target != TargetKind::MultiLabel {
            let reason = "a threshold is for lists of labels (task.target = \"labels\")";
            return Err(self.setting("task.threshold", reason));
        }
        match self.data.label_separator.is_empty() {
            true => Err(TrainerError::value(
                "data.label_separator",
                "at least one character",
                "nothing",
            )),
            false => Ok(()),
        }
    }

    fn validate_weights(&self) -> Result<(), TrainerError> {
        let task = &self.task;
        let Some(weights) = &task.class_weights else {
            return Ok(());
        };
        if task.kind.is_of_language_models() {
            return Err(self.setting("task.class_weights", "a language model has no classes"));
        }
        if task.target == TargetKind::Regression {
            return Err(self.setting("task.class_weights", "numbers have no classes"));
        }
        match weights.invalid() {
            Some((name, weight)) => {
                let found = format!("{weight} for `{name}`");
                Err(TrainerError::value("task.class_weights", ABOVE_ZERO, found))
            }
            None => Ok(()),
        }
    }

    fn validate_smoothing(&self) -> Result<(), TrainerError> {
        if self.training.label_smoothing == 0.0 {
            return Ok(());
        }
        let reason = match self.task.target {
            TargetKind::Classification => return Ok(()),
            TargetKind::MultiLabel => {
                "it spreads one class over all, and each label is judged alone"
            }
            TargetKind::Regression => "it spreads a class over all, and a number has none",
        };
        Err(self.setting("training.label_smoothing", reason))
    }

    /// That `key` does not go with the task.
    fn setting(&self, key: &'static str, reason: &'static str) -> TrainerError {
        TrainerError::TaskSetting {
            key,
            task: self.task.kind.name(),
            target: self.task.target.name(),
            reason,
        }
    }

    fn validate_prompts(&self) -> Result<(), TrainerError> {
        if self.task.prompts()?.is_none() {
            return Ok(());
        }
        let wrong = |key, found: &str, reason| {
            let found = found.to_owned();
            Err(TrainerError::PromptsWith { key, found, reason })
        };
        let kind = self.task.kind;
        if !kind.definition().takes_prompts() {
            let reason = "prompts need kind = \"image-classification\"";
            return wrong("task.kind", &format!("\"{}\"", kind.name()), reason);
        }
        let reason = match self.task.target {
            TargetKind::Classification => None,
            TargetKind::MultiLabel => {
                Some("a zero-shot head compares labels with each other; train a head for several")
            }
            TargetKind::Regression => Some("labels that are numbers have no names for prompts"),
        };
        if let Some(reason) = reason {
            let found = format!("\"{}\"", self.task.target.name());
            return wrong("task.target", &found, reason);
        }
        match self.base.from_scratch {
            true => {
                let reason = "prompts need a pretrained text tower";
                wrong("base.from_scratch", "true", reason)
            }
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// - task, training: further lines of these tables
    fn problems(task: &str, training: &str) -> Vec<String> {
        let text = format!(
            "output = \"o\"\n[base]\nmodel = \"m\"\n[data]\npath = \"d\"\n[task]\n{task}\n[adapter]\n\
             method = \"lora\"\nrank = 2\n[training]\nepochs = 2\nbatch_size = 4\n\
             learning_rate = 0.1\n{training}"
        );
        let config: TrainConfig = toml::from_str(&text).expect("a training file");
        let problems = config.problems();
        problems.iter().map(TrainerError::to_string).collect()
    }

    #[track_caller]
    fn assert_refused(task: &str, training: &str, key: &str, reason: &str) {
        let found = problems(task, training);
        let [message] = &found[..] else {
            panic!("expected one problem: {found:?}");
        };
        assert!(
            message.contains(&format!("`{key}`")) && message.contains(reason),
            "{message}"
        );
    }

    #[test]
    fn settings_that_the_target_has_no_use_for_are_refused() {
        let smoothing = "label_smoothing = 0.1";
        let weights = "class_weights = \"balanced\"";
        assert!(problems(weights, smoothing).is_empty());
        assert!(
            problems(
                &format!("target = \"labels\"\nthreshold = 0.3\n{weights}"),
                ""
            )
            .is_empty()
        );
        assert!(problems("kind = \"causal-lm\"", smoothing).is_empty());

        let key = "training.label_smoothing";
        assert_refused("target = \"number\"", smoothing, key, "target = \"number\"");
        assert_refused("target = \"labels\"", smoothing, key, "judged alone");
        assert_refused(
            "threshold = 0.3",
            "",
            "task.threshold",
            "target = \"labels\"",
        );
        let key = "task.class_weights";
        let of_numbers = format!("target = \"number\"\n{weights}");
        assert_refused(&of_numbers, "", key, "numbers have no classes");
        let of_tokens = format!("kind = \"causal-lm\"\n{weights}");
        assert_refused(&of_tokens, "", key, "has no classes");
        let target = "kind = \"causal-lm\"\ntarget = \"labels\"";
        assert_refused(target, "", "task.target", "predicts tokens");
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let key = "training.label_smoothing";
        assert_refused("", "label_smoothing = 1.0", key, "below 1");
        assert_refused("", "label_smoothing = -0.1", key, "at least 0");
        let weights = "class_weights = { a = 1.0, b = 0 }";
        assert_refused(weights, "", "task.class_weights", "0 for `b`");
        let text = "threshold = 1.5\ntarget = \"labels\"";
        let error = toml::from_str::<TaskConfig>(text).unwrap_err().to_string();
        assert!(error.contains("above 0 and below 1"), "{error}");
    }

    #[test]
    fn what_nobody_set_is_not_written() {
        let written = toml::to_string(&TaskConfig::default()).expect("TOML");
        assert_eq!(
            written,
            "kind = \"sequence-classification\"\ntarget = \"class\"\n"
        );
    }
}
