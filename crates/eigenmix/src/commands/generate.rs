//! `eigenmix generate`: images of prompts.

use std::fmt;
use std::path::Path;

use eigenmix_diffusion::ImageRecord;
use eigenmix_experiment::{
    Destination, ExperimentError, GenerateRequest, Generated, MeasuredImage, OptionNames,
    PipelineRequest, SimilarityRequest, WeightedAdapter, generate, generate_arms,
};
use eigenmix_trainer::{DeviceChoice, Processes};
use serde::Serialize;

use crate::cli::GenerateArguments;
use crate::console::Console;

pub(crate) fn run(
    arguments: &GenerateArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let destination = Destination::new(&arguments.out, arguments.force)?;
    let request = GenerateRequest {
        model: PipelineRequest {
            base: arguments.base.clone(),
            weights: arguments.weights,
            adapters: (arguments.adapters.iter())
                .map(|argument| WeightedAdapter::parse(argument))
                .collect(),
            allow_partial: arguments.allow_partial,
            names: OptionNames::Flags,
        },
        prompts: arguments.prompts.clone(),
        negative_prompt: arguments.negative_prompt.clone(),
        images: arguments.images.get(),
        steps: arguments.steps.get(),
        guidance: arguments.guidance,
        sampler: arguments.sampler,
        seed: arguments.seed,
        width: arguments.width,
        height: arguments.height,
        similarity: arguments.clip.clone().map(|clip| SimilarityRequest {
            clip,
            references: arguments.references.clone(),
        }),
        device,
    };
    for input in std::iter::once(&request.model.base)
        .chain(request.model.adapters.iter().map(|adapter| &adapter.name))
        .chain(&arguments.clip)
    {
        destination.keep_apart_from(Path::new(input))?;
    }
    for input in arguments.references.iter().chain(&arguments.arms) {
        destination.keep_apart_from(input)?;
    }
    let stop = console.stop(&Processes::alone())?;
    let Generated { images, is_stopped } = match &arguments.arms {
        Some(experiment) => generate_arms(&request, experiment, &destination, stop, console)?,
        None => generate(&request, &destination, stop, console)?,
    };
    console.result(&Images {
        out: &arguments.out,
        images,
    })?;
    match is_stopped {
        true => Err(ExperimentError::Interrupted.into()),
        false => Ok(()),
    }
}

#[derive(Serialize)]
struct Images<'a> {
    out: &'a Path,
    images: Vec<MeasuredImage>,
}

impl fmt::Display for Images<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`:", self.out.display())?;
        for image in &self.images {
            let ImageRecord { file, prompt, .. } = &image.record;
            write!(formatter, "\n  {file}  {prompt}")?;
            if let Some(similarity) = image.similarity {
                write!(formatter, "  CLIP: text {:.4}", similarity.text)?;
                if let Some(image) = similarity.image {
                    write!(formatter, ", images {image:.4}")?;
                }
            }
        }
        Ok(())
    }
}
