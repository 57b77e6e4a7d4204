//! `eigenmix forward` of one part of a diffusion model.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use eigenmix_diffusion::ForwardPart;
use eigenmix_experiment::{BadInput, OptionNames, PipelineRequest, WeightedAdapter, part_forward};
use eigenmix_tensors::{TensorFile, TensorOutput, write_tensor_file};
use eigenmix_trainer::DeviceChoice;
use serde::Serialize;

use crate::cli::ForwardArguments;
use crate::console::Console;

pub(crate) fn run(
    arguments: &ForwardArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    let model = &arguments.model;
    let Some(part) = arguments.part else {
        let parts = ForwardPart::NAMES.map(|(name, _)| name).join(", ");
        return Err(BadInput(format!(
            "`{}` is a diffusion model; say with --part which part runs: {parts}",
            model.base
        ))
        .into());
    };
    let zero_shot = &arguments.zero_shot;
    for (is_given, flag) in [
        (model.head.is_some(), "--head"),
        (!zero_shot.prompts.is_empty(), "--prompt"),
        (!zero_shot.labels.is_empty(), "--labels"),
    ] {
        if is_given {
            let problem = format!("{flag} is not for diffusion models; leave it out");
            return Err(BadInput(problem).into());
        }
    }
    let request = PipelineRequest {
        base: model.base.clone(),
        config: arguments.base_config.clone(),
        weights: model.weights,
        adapters: (model.adapter.iter())
            .map(|argument| WeightedAdapter::parse(argument))
            .collect(),
        allow_partial: model.allow_partial,
        names: OptionNames::Flags,
    };
    let opened = request.open(console)?;
    let inputs = TensorFile::open(&arguments.inputs)?;
    let outputs = part_forward(&opened, part, &inputs, device, console)?;
    let tensors = outputs
        .iter()
        .map(|(name, tensor)| TensorOutput::f32(*name, tensor.shape.clone(), &tensor.values));
    write_tensor_file(&arguments.out, tensors.collect())?;
    console.result(&PartResult {
        out: &arguments.out,
        outputs: (outputs.iter())
            .map(|(name, tensor)| (*name, tensor.shape.as_slice()))
            .collect(),
    })
}

#[derive(Serialize)]
struct PartResult<'a> {
    out: &'a Path,
    /// The shapes of the outputs, by name.
    outputs: BTreeMap<&'a str, &'a [usize]>,
}

impl fmt::Display for PartResult<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`:", self.out.display())?;
        for (index, (name, shape)) in self.outputs.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(formatter, "{comma} {name} {shape:?}")?;
        }
        Ok(())
    }
}
