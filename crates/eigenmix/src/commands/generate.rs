//! `eigenmix generate`: images of prompts.

use std::fmt;
use std::path::Path;

use eigenmix_diffusion::ImageRecord;
use eigenmix_experiment::{
    Destination, ExperimentError, GenerateRequest, Generated, OptionNames, PipelineRequest,
    WeightedAdapter, generate,
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
            config: arguments.base_config.clone(),
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
        device,
    };
    for input in std::iter::once(&request.model.base)
        .chain(&request.model.config)
        .chain(request.model.adapters.iter().map(|adapter| &adapter.name))
    {
        destination.keep_apart_from(Path::new(input))?;
    }
    let stop = console.stop(&Processes::alone())?;
    let Generated { images, is_stopped } = generate(&request, &destination, stop, console)?;
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
    images: Vec<ImageRecord>,
}

impl fmt::Display for Images<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`:", self.out.display())?;
        for image in &self.images {
            let ImageRecord { file, prompt, .. } = image;
            write!(formatter, "\n  {file}  {prompt}")?;
        }
        Ok(())
    }
}
