//! A diffusion model as `eigenmix inspect` shows it.

use std::fmt;

use eigenmix_diffusion::{Pipeline, PipelineSummary};
use eigenmix_experiment::ByteCount;
use eigenmix_models::Precision;
use eigenmix_trainer::locate_pipeline;
use serde::Serialize;

/// A diffusion model and what it was asked for as.
#[derive(Serialize)]
pub(super) struct InspectedPipeline {
    path: String,
    #[serde(flatten)]
    summary: PipelineSummary,
}

impl InspectedPipeline {
    pub(super) fn read(argument: &str) -> anyhow::Result<Self> {
        let pipeline = Pipeline::open(&locate_pipeline(argument)?, Precision::Auto)?;
        Ok(Self {
            path: argument.to_owned(),
            summary: PipelineSummary::of(pipeline)?,
        })
    }
}

impl fmt::Display for InspectedPipeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = &self.summary;
        write!(formatter, "`{}`: {}", self.path, summary.kind)?;
        if let Some([height, width]) = summary.size {
            write!(formatter, ", images of {width} × {height}")?;
        }
        for part in &summary.parts {
            let dtypes: Vec<&str> = part.dtypes.keys().map(String::as_str).collect();
            write!(
                formatter,
                "\n  {:<16}{:>7.1} million parameters, {} in {}",
                part.part,
                part.parameters as f64 / 1e6,
                dtypes.join(" and "),
                ByteCount(part.bytes as u64)
            )?;
        }
        if let Some(scheduler) = &summary.scheduler {
            write!(
                formatter,
                "\n  {:<16}{}, predicts {}, {} times; sampled by {}",
                "scheduler",
                scheduler.class.as_deref().unwrap_or("of no class"),
                scheduler.prediction,
                scheduler.times,
                scheduler.sampler
            )?;
        }
        for (part, works) in &summary.missing {
            write!(formatter, "\n  {part} is missing; {works}")?;
        }
        for part in &summary.parts {
            if let Some(first) = part.unread.first() {
                write!(
                    formatter,
                    "\n  {}: nothing reads {} of its tensors, such as `{first}`",
                    part.part,
                    part.unread.len()
                )?;
            }
        }
        for text in summary.problems.iter().chain(&summary.notes) {
            write!(formatter, "\n  {text}")?;
        }
        Ok(())
    }
}
