//! The `[diffusion]` table of a training file.

use std::borrow::Cow;
use std::num::NonZeroUsize;

use eigenmix_data::TargetKind;
use eigenmix_diffusion::{NoiseConfig, SamplerKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::TrainerError;
use crate::config::{ABOVE_ZERO, BELOW_ONE, TrainConfig};
use crate::init::Init;
use crate::tasks::TaskKind;

/// The `[diffusion]` table: how a diffusion model is trained, and what it shows on the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiffusionConfig {
    /// Whether layers of the text encoders are adapted too. They are named in `adapter.target_modules`, or by
    /// default those of attention.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub train_text_encoders: bool,
    /// Min-SNR weighting (arXiv 2303.09556): losses of times with less noise than this signal-to-noise ratio
    /// count less. 5 is usual. Default: all times count the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub min_snr: Option<f32>,
    /// Noise of the same value in all pixels of a channel is added, this strong, so that the model learns
    /// images that are dark or bright as a whole; 0.05 to 0.1 is usual.
    #[schemars(range(min = 0))]
    pub noise_offset: f64,
    /// The probability with which a caption is replaced by the empty one, so that guidance has something to
    /// guide away from.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub caption_dropout: f64,
    /// How often an epoch goes through the training images, each time with other noise.
    pub repeats: NonZeroUsize,
    /// How much the loss of the class images counts beside that of the instance images, of
    /// `task.kind = "dreambooth"`.
    #[schemars(range(min = 0))]
    pub prior_weight: f32,
    /// At how many times each image of an evaluation is judged: one in each of so many bands of equal length,
    /// with the same noise in every evaluation of every training.
    pub validation_times: NonZeroUsize,
    /// The directory in which encoded images and captions are kept, by what they depend on: trainings of the
    /// same images may share it. Default: `cache` in the run's directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Images that are made during the training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<SamplesConfig>,
}

/// The `[diffusion.samples]` table: images of the same prompts and seeds as the training goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SamplesConfig {
    /// What is to be seen.
    pub prompts: Vec<String>,
    /// What is not to be seen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub negative_prompt: String,
    /// Make them every this many steps, and at the end. Default: at the end only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<NonZeroUsize>,
    /// How many images of each prompt, of consecutive seeds.
    #[serde(default = "one")]
    pub images: NonZeroUsize,
    /// The seed of the first one.
    #[serde(default)]
    pub seed: u64,
    /// How many steps the sampler takes.
    #[serde(default = "default_steps")]
    pub steps: NonZeroUsize,
    /// The factor on what the prompt changes; 1 takes the prompt alone. Default: 7.5, of SDXL 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// The sampler. Default: the model's own, if it is one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<SamplerKind>,
    /// Width and height in pixels. Default: those that the training images are brought to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
}

impl Default for DiffusionConfig {
    fn default() -> Self {
        const BANDS: NonZeroUsize = NonZeroUsize::new(4).expect("not zero");
        Self {
            train_text_encoders: false,
            min_snr: None,
            noise_offset: 0.0,
            caption_dropout: 0.0,
            repeats: NonZeroUsize::MIN,
            prior_weight: 1.0,
            validation_times: BANDS,
            cache: None,
            samples: None,
        }
    }
}

impl DiffusionConfig {
    /// What is drawn for every image of every step.
    pub(crate) fn noise(&self) -> NoiseConfig {
        NoiseConfig {
            offset: self.noise_offset,
            caption_dropout: self.caption_dropout,
        }
    }

    /// An error for every value that makes no sense.
    pub(crate) fn problems(&self) -> Vec<TrainerError> {
        let at_least_zero = "a number of at least 0";
        let is_number = |value: f64| value >= 0.0 && value.is_finite();
        let min_snr = self.min_snr.unwrap_or(1.0);
        let guidance = self.samples.as_ref().and_then(|samples| samples.guidance);
        let numbers = [
            (
                "diffusion.min_snr",
                f64::from(min_snr),
                min_snr > 0.0 && min_snr.is_finite(),
                ABOVE_ZERO,
            ),
            (
                "diffusion.noise_offset",
                self.noise_offset,
                is_number(self.noise_offset),
                at_least_zero,
            ),
            (
                "diffusion.caption_dropout",
                self.caption_dropout,
                (0.0..1.0).contains(&self.caption_dropout),
                BELOW_ONE,
            ),
            (
                "diffusion.prior_weight",
                f64::from(self.prior_weight),
                is_number(f64::from(self.prior_weight)),
                at_least_zero,
            ),
            (
                "diffusion.samples.guidance",
                guidance.unwrap_or(1.0),
                guidance.is_none_or(is_number),
                at_least_zero,
            ),
        ];
        let numbers = numbers.into_iter().filter(|(_, _, is_good, _)| !is_good);
        let mut problems: Vec<TrainerError> = numbers
            .map(|(key, found, _, expected)| TrainerError::value(key, expected, found))
            .collect();
        if let Some(samples) = self
            .samples
            .as_ref()
            .filter(|found| found.prompts.is_empty())
        {
            let found = format!("{:?}", samples.prompts);
            let key = "diffusion.samples.prompts";
            problems.push(TrainerError::value(key, "at least one prompt", found));
        }
        problems
    }
}

impl TrainConfig {
    /// The `[diffusion]` table, or its defaults.
    pub(crate) fn diffusion(&self) -> Cow<'_, DiffusionConfig> {
        match &self.diffusion {
            Some(config) => Cow::Borrowed(config),
            None => Cow::Owned(DiffusionConfig::default()),
        }
    }

    /// An error for every value that makes no sense for a diffusion model, or for another one.
    pub(crate) fn diffusion_problems(&self) -> Vec<TrainerError> {
        let task = self.task.kind.name();
        let refused = |key, reason| TrainerError::TaskOption { key, task, reason };
        if !self.task.kind.is_of_diffusion_models() {
            let reason = "it is read for text-to-image and dreambooth only; leave it out";
            let table = self.diffusion.iter();
            return table.map(|_| refused("diffusion", reason)).collect();
        }
        let config = self.diffusion();
        let (adapter, training) = (&self.adapter, &self.training);
        let drops_out = adapter.drops_out();
        let no_labels = "a diffusion model has no labels; leave it out";
        let is_dream_booth = self.task.kind == TaskKind::Dreambooth;
        let usual = DiffusionConfig::default();
        let rules = [
            (
                "adapter.method",
                adapter.method.trains_everything() || adapter.method.is_composition(),
                "diffusion models are trained with lora, moslora, eigenlorax or eigenmix",
            ),
            (
                "adapter.gradient",
                adapter.gradient_config().is_some(),
                "gradients of the task are taken of models of texts and images only",
            ),
            (
                "adapter.init",
                adapter.init() == Init::Compose,
                "compositions are of models of texts and images; take zero, merge, project:ADAPTER or auto",
            ),
            (
                "adapter.modules_to_save",
                !adapter.modules_to_save.is_empty(),
                "no module of a diffusion model is trained whole",
            ),
            (
                "adapter.vision",
                adapter.vision.is_some(),
                "it is for the towers of vision-language models",
            ),
            (
                "base.from_scratch",
                self.base.from_scratch,
                "diffusion models are not trained from random weights",
            ),
            (
                "base.dropout",
                self.base.dropout > 0.0,
                "diffusion models have none; adapter.dropout is that of the update",
            ),
            (
                "task.target",
                self.task.target != TargetKind::Classification,
                no_labels,
            ),
            (
                "task.class_weights",
                self.task.class_weights.is_some(),
                no_labels,
            ),
            (
                "training.label_smoothing",
                training.label_smoothing > 0.0,
                no_labels,
            ),
            (
                "training.tokens_per_batch",
                training.tokens_per_batch.is_some(),
                "batches are of images; give training.batch_size",
            ),
            (
                "training.head_learning_rate",
                training.head_learning_rate.is_some(),
                "a diffusion model has no head",
            ),
            (
                "training.gradient_checkpointing",
                training.gradient_checkpointing && (config.train_text_encoders || drops_out),
                "blocks of the UNet can be run again, but neither text encoders nor adapter.dropout with them; \
                 leave one of them out",
            ),
            (
                "diffusion.prior_weight",
                config.prior_weight != usual.prior_weight && !is_dream_booth,
                "class images go with dreambooth only; leave it out",
            ),
        ];
        let rules = rules.into_iter().filter(|(_, is_broken, _)| *is_broken);
        let mut problems: Vec<TrainerError> =
            rules.map(|(key, _, reason)| refused(key, reason)).collect();
        problems.extend(config.problems());
        problems
    }
}

fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

fn default_steps() -> NonZeroUsize {
    const STEPS: NonZeroUsize = NonZeroUsize::new(30).expect("not zero");
    STEPS
}
