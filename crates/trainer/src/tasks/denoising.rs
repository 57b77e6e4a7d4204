//! The tasks of diffusion models. They have no networks of the models crate: how they are trained is in
//! [`crate::diffusion`].

use eigenmix_data::metrics::Metric;
use eigenmix_data::{DataConfig, Split};
use eigenmix_models::{Architecture, HeadKind};

use super::{Survey, Task, TaskReader};
use crate::{BaseModel, TrainerError};

/// A task of diffusion models.
pub(super) struct Denoising {
    name: &'static str,
    settings: &'static [&'static str],
}

/// Images with captions.
pub(super) const TEXT_TO_IMAGE: Denoising = Denoising {
    name: "text-to-image",
    settings: &[
        "image",
        "caption",
        "unreadable",
        "resolution",
        "crop",
        "flip",
        "interpolation",
        "buckets",
        "bucket_step",
        "bucket_aspect",
        "small_images",
    ],
};

/// Images of one subject, and others of its class.
pub(super) const DREAMBOOTH: Denoising = Denoising {
    name: "dreambooth",
    settings: &[
        "image",
        "instance_images",
        "instance_prompt",
        "class_images",
        "class_prompt",
        "class_count",
        "unreadable",
        "resolution",
        "crop",
        "flip",
        "interpolation",
        "buckets",
        "bucket_step",
        "bucket_aspect",
        "small_images",
    ],
};

impl Task for Denoising {
    fn name(&self) -> &'static str {
        self.name
    }

    fn settings(&self) -> &'static [&'static str] {
        self.settings
    }

    fn models(&self) -> &'static str {
        "diffusion models make images of texts"
    }

    fn fits(&self, _architecture: &Architecture) -> bool {
        false
    }

    fn is_of_head(&self, _head: HeadKind) -> bool {
        false
    }

    fn head(&self, _labels: usize, _from_prompts: bool) -> HeadKind {
        unreachable!("no network fits, which is asked first")
    }

    fn open<'a>(
        &self,
        _base: &'a BaseModel,
        _config: &'a DataConfig,
        _metrics: &[Metric],
    ) -> Result<Box<dyn TaskReader + 'a>, TrainerError> {
        Err(TrainerError::OfNetworks { task: self.name })
    }

    fn survey(
        &self,
        _split: Split,
        _config: &DataConfig,
        _base: Option<&BaseModel>,
    ) -> Result<Survey, TrainerError> {
        Err(TrainerError::OfNetworks { task: self.name })
    }
}
