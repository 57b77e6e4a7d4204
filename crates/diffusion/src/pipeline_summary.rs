//! What a diffusion model consists of, without reading its weights.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    AdaptedPipeline, DiffusionError, NoiseSchedule, Part, Pipeline, Prediction, SamplerKind,
};

/// A model at a glance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PipelineSummary {
    /// Stable Diffusion 1.x or 2.x, or SDXL.
    pub kind: &'static str,
    pub parts: Vec<PartSummary>,
    /// The parts that such a model has and this one lacks, each with what works without it.
    pub missing: Vec<(&'static str, &'static str)>,
    pub scheduler: Option<SchedulerSummary>,
    /// Height and width of the images that it was trained for.
    pub size: Option<[usize; 2]>,
    /// What images cannot be made without: the tokenizer of a part, or the scheduler's file.
    pub problems: Vec<String>,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartSummary {
    pub part: &'static str,
    pub parameters: usize,
    /// How many bytes its weights take in the files.
    pub bytes: usize,
    /// The types of its weights, each with how many parameters have it.
    pub dtypes: BTreeMap<String, usize>,
    /// Tensors that nothing reads.
    pub unread: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SchedulerSummary {
    /// The class that the file names.
    pub class: Option<String>,
    /// What the UNet predicts: `epsilon` or `v_prediction`.
    pub prediction: &'static str,
    pub times: usize,
    /// The sampler that images are made with where none is asked for.
    pub sampler: &'static str,
}

impl PipelineSummary {
    /// # Errors
    /// If a part that is there cannot be opened, or is of a kind that is not built here.
    pub fn of(pipeline: Pipeline) -> Result<Self, DiffusionError> {
        let model = AdaptedPipeline::new(pipeline, Vec::new(), false)?;
        let pipeline = &model.pipeline;
        let wanted: Vec<Part> = [Part::Unet, Part::Vae]
            .into_iter()
            .chain(model.text_parts().iter().copied())
            .collect();
        let there = wanted.iter().filter(|part| pipeline.has(**part));
        let parts = there.map(|&part| PartSummary::of(&model, part));
        let missing = wanted.iter().filter(|part| !pipeline.has(**part));
        let mut problems = Vec::new();
        let scheduler = match pipeline.schedule() {
            Ok(schedule) => Some(SchedulerSummary::of(&schedule)),
            Err(error) => {
                problems.push(error.to_string());
                None
            }
        };
        for &part in model.text_parts() {
            problems.extend(
                pipeline
                    .tokenizer(part)
                    .err()
                    .map(|error| error.to_string()),
            );
        }
        problems.dedup();
        Ok(Self {
            kind: model.kind.name(),
            parts: parts.collect::<Result<_, _>>()?,
            missing: missing.map(|part| (part.name(), part.without())).collect(),
            scheduler,
            size: usual_size(&model)?,
            problems,
            notes: pipeline.notes(),
        })
    }
}

fn usual_size(model: &AdaptedPipeline) -> Result<Option<[usize; 2]>, DiffusionError> {
    let has = |part: Part| model.pipeline.has(part);
    if !has(Part::Unet) || !has(Part::Vae) {
        return Ok(None);
    }
    let reduction = model.vae_config()?.reduction();
    let latents = model.unet_config()?.sample_size;
    Ok(latents.map(|size| size.map(|side| side * reduction)))
}

impl PartSummary {
    fn of(model: &AdaptedPipeline, part: Part) -> Result<Self, DiffusionError> {
        let checkpoint = model.pipeline.checkpoint(part)?;
        let mut summary = Self {
            part: part.name(),
            parameters: 0,
            bytes: 0,
            dtypes: BTreeMap::new(),
            unread: model.unread(part)?,
        };
        for name in checkpoint.names() {
            let Some(file) = checkpoint.file_of(name) else {
                continue;
            };
            let (shape, dtype) = file.tensor(name)?;
            // A buffer of positions is no parameter.
            if name.ends_with("position_ids") {
                continue;
            }
            let count: usize = shape.iter().product();
            summary.parameters += count;
            summary.bytes += file.view(name)?.len();
            *summary.dtypes.entry(format!("{dtype:?}")).or_default() += count;
        }
        Ok(summary)
    }
}

impl SchedulerSummary {
    fn of(schedule: &NoiseSchedule) -> Self {
        let class = schedule.json().get("_class_name");
        Self {
            class: class.and_then(|class| class.as_str()).map(str::to_owned),
            prediction: match schedule.prediction {
                Prediction::Epsilon => "epsilon",
                Prediction::Velocity => "v_prediction",
            },
            times: schedule.times(),
            sampler: SamplerKind::of_scheduler(schedule.json())
                .unwrap_or_default()
                .name(),
        }
    }
}
