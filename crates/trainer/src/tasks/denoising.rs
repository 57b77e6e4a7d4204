//! The tasks of diffusion models. They have no networks of the models crate: how they are trained is in
//! [`crate::diffusion`].

use eigenmix_data::metrics::Metric;
use eigenmix_data::{DataConfig, Split};
use eigenmix_models::{Architecture, HeadKind};

use super::{Survey, Task, TaskReader};
use crate::{BaseModel, TrainerError};

/// Images with captions.
pub(super) struct TextToImage;

/// Images of one subject, and others of its class.
pub(super) struct Dreambooth;

/// What both read of `[data]`.
macro_rules! of_images {
    ($($more:literal),*) => {
        &[
            "unreadable", "resolution", "crop", "flip", "interpolation", "buckets", "bucket_step",
            "bucket_aspect", "small_images", "image", $($more),*
        ]
    };
}

/// Which models both are for.
const MODELS: &str = "diffusion models make images of texts";

/// What is asked of a network of a task that has none is a fault of the program, except to open its data,
/// which is where a wrong model is told.
macro_rules! denoising {
    ($task:ty, $name:literal, $settings:expr) => {
        impl Task for $task {
            fn name(&self) -> &'static str {
                $name
            }

            fn settings(&self) -> &'static [&'static str] {
                $settings
            }

            fn models(&self) -> &'static str {
                MODELS
            }

            fn fits(&self, _architecture: &Architecture) -> bool {
                false
            }

            fn is_of_head(&self, _head: HeadKind) -> bool {
                false
            }

            fn head(&self, _labels: usize, _from_prompts: bool) -> HeadKind {
                unreachable!("no network does this task")
            }

            fn open<'a>(
                &self,
                base: &'a BaseModel,
                _config: &'a DataConfig,
                _metrics: &[Metric],
            ) -> Result<Box<dyn TaskReader + 'a>, TrainerError> {
                Err(no_network($name, base))
            }

            fn survey(
                &self,
                _split: Split,
                _config: &DataConfig,
                _base: Option<&BaseModel>,
            ) -> Result<Survey, TrainerError> {
                Err(TrainerError::OfNetworks { task: $name })
            }
        }
    };
}

denoising!(TextToImage, "text-to-image", of_images!["caption"]);
denoising!(
    Dreambooth,
    "dreambooth",
    of_images![
        "instance_images",
        "instance_prompt",
        "class_images",
        "class_prompt",
        "class_count"
    ]
);

fn no_network(task: &'static str, base: &BaseModel) -> TrainerError {
    TrainerError::TaskModel {
        task,
        model: base.name.clone(),
        found: base.architecture.kind(),
        known: MODELS.to_owned(),
    }
}
