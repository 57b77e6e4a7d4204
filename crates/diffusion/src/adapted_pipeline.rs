//! A diffusion model with adapters on top.

use burn::tensor::{Device, Tensor};
use eigenmix_models::{Adaptation, Checkpoint, Description, LoadReport};

use crate::combination::combined;
use crate::text_to_image::finite_values;
use crate::{
    DiffusionError, Kind, Part, Pipeline, PipelineAdapter, TextEncoderFiles, TextEncoders,
    TextSizes, Unet, UnetConfig, Vae, VaeConfig,
};

/// A diffusion model and the adapters that it runs with, each with a weight.
#[derive(Clone)]
pub struct AdaptedPipeline {
    pub pipeline: Pipeline,
    pub kind: Kind,
    pub adapters: Vec<(PipelineAdapter, f32)>,
    /// Continue even if an adapter has modules that do not fit.
    pub allow_partial: bool,
}

impl AdaptedPipeline {
    /// # Errors
    /// If the model's kind cannot be told, or an adapter shows that it is for another, or, unless
    /// `allow_partial`, has something that is of no part.
    pub fn new(
        pipeline: Pipeline,
        adapters: Vec<(PipelineAdapter, f32)>,
        allow_partial: bool,
    ) -> Result<Self, DiffusionError> {
        let kind = pipeline.kind()?;
        for (adapter, _) in &adapters {
            adapter.check_kind(kind)?;
            if !allow_partial {
                adapter.check_whole()?;
            }
        }
        Ok(Self {
            pipeline,
            kind,
            adapters,
            allow_partial,
        })
    }

    /// The text encoders that a model of this kind has.
    pub fn text_parts(&self) -> &'static [Part] {
        match self.kind {
            Kind::Sd => &[Part::TextEncoder],
            Kind::Xl => &[Part::TextEncoder, Part::TextEncoder2],
        }
    }

    /// # Errors
    /// If the UNet is missing, or is one that is not built here.
    pub fn unet_config(&self) -> Result<UnetConfig, DiffusionError> {
        let json = self.pipeline.part_config(Part::Unet)?;
        UnetConfig::from_json(&json, &self.pipeline.directory_of(Part::Unet))
    }

    /// # Errors
    /// If the VAE is missing, or is one that is not built here.
    pub fn vae_config(&self) -> Result<VaeConfig, DiffusionError> {
        let json = self.pipeline.part_config(Part::Vae)?;
        VaeConfig::from_json(&json, &self.pipeline.directory_of(Part::Vae))
    }

    /// What each text encoder takes.
    ///
    /// # Errors
    /// If one is missing, or is none of CLIP's.
    pub fn text_sizes(&self) -> Result<Vec<TextSizes>, DiffusionError> {
        let sizes = |&part: &Part| {
            let checkpoint = self.pipeline.checkpoint(part)?;
            let directory = self.pipeline.directory_of(part);
            Ok(TextEncoderFiles::new(part, checkpoint, &directory)?.sizes())
        };
        self.text_parts().iter().map(sizes).collect()
    }

    /// - report: is told how each adapter matched
    ///
    /// # Errors
    /// If the UNet is missing or damaged, or an adapter does not fit.
    pub fn unet(
        &self,
        device: &Device,
        report: &mut dyn FnMut(&LoadReport),
    ) -> Result<Unet, DiffusionError> {
        let part = Part::Unet;
        let checkpoint = self.pipeline.checkpoint(part)?;
        let config = self.unet_config()?;
        let adaptation = self.adaptation(part, &config.describe(), &checkpoint, report)?;
        let loaded = Unet::load(&checkpoint, &config, &adaptation, device)
            .map_err(|source| DiffusionError::Part { part, source })?;
        LoadReport::default()
            .leave_out(&loaded.unplaced, self.allow_partial)
            .map_err(|source| DiffusionError::Part { part, source })?;
        Ok(loaded.unet)
    }

    /// The tensors of a part that nothing reads: of layers that its configuration does not have.
    ///
    /// # Errors
    /// If the part is missing, or is of a kind that is not built here.
    pub fn unread(&self, part: Part) -> Result<Vec<String>, DiffusionError> {
        let checkpoint = self.pipeline.checkpoint(part)?;
        Ok(match part {
            Part::Unet => self.unet_config()?.unread(&checkpoint),
            Part::Vae => self.vae_config()?.unread(&checkpoint),
            Part::TextEncoder | Part::TextEncoder2 => {
                let directory = self.pipeline.directory_of(part);
                TextEncoderFiles::new(part, checkpoint, &directory)?.unread()
            }
        })
    }

    /// What to say of tensors that nothing reads, part by part.
    ///
    /// # Errors
    /// As [`AdaptedPipeline::unread`].
    pub fn unread_notes(&self, parts: &[Part]) -> Result<Vec<String>, DiffusionError> {
        let mut notes = Vec::new();
        for &part in parts {
            let unread = self.unread(part)?;
            if let Some(first) = unread.first() {
                notes.push(format!(
                    "nothing reads {} tensors of the {part}, such as `{first}`: its configuration has no such layer",
                    unread.len()
                ));
            }
        }
        Ok(notes)
    }

    /// # Errors
    /// As [`AdaptedPipeline::unet`], for the text encoders.
    pub fn text_encoders(
        &self,
        device: &Device,
        report: &mut dyn FnMut(&LoadReport),
    ) -> Result<TextEncoders, DiffusionError> {
        let mut load = |part: Part| {
            let checkpoint = self.pipeline.checkpoint(part)?;
            let directory = self.pipeline.directory_of(part);
            let files = TextEncoderFiles::new(part, checkpoint, &directory)?;
            let description = files.describe();
            let adaptation =
                self.adaptation(part, &description, &files.checkpoint, &mut *report)?;
            files.load(&adaptation, device)
        };
        Ok(TextEncoders {
            first: load(Part::TextEncoder)?,
            second: match self.kind {
                Kind::Sd => None,
                Kind::Xl => Some(load(Part::TextEncoder2)?),
            },
        })
    }

    /// # Errors
    /// If it is missing or damaged.
    pub fn vae(&self, device: &Device) -> Result<Vae, DiffusionError> {
        let part = Part::Vae;
        let checkpoint = self.pipeline.checkpoint(part)?;
        let config = self.vae_config()?;
        Vae::load(&checkpoint, &config, device)
            .map_err(|source| DiffusionError::Part { part, source })
    }

    fn adaptation(
        &self,
        part: Part,
        description: &Description,
        checkpoint: &Checkpoint,
        report: &mut dyn FnMut(&LoadReport),
    ) -> Result<Adaptation, DiffusionError> {
        let mut adaptations = Vec::new();
        for (adapter, weight) in &self.adapters {
            let (kind, partial) = (self.kind, self.allow_partial);
            let found = adapter.adaptation(part, kind, description, checkpoint, partial)?;
            if let Some((adaptation, matched)) = found {
                report(&matched);
                adaptations.push((adapter.location(), *weight, adaptation));
            }
        }
        match adaptations.is_empty() {
            true => Ok(Adaptation::default()),
            false => combined(adaptations),
        }
    }

    /// The values of a part's output, if all of them are numbers.
    ///
    /// # Errors
    /// If a value is NaN or infinite; where the part's own weights are, the first of them is named.
    pub fn require_finite<const D: usize>(
        &self,
        part: Part,
        output: Tensor<D>,
    ) -> Result<Vec<f32>, DiffusionError> {
        finite_values(part, output).map_err(|error| self.explained(error))
    }

    /// Of values that are not finite: which weights are not, if some are.
    pub(crate) fn explained(&self, error: DiffusionError) -> DiffusionError {
        self.pipeline.explained(error)
    }
}
