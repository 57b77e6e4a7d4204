//! A cell that evaluates an adapter instead of training one.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use eigenmix_data::Split;
use eigenmix_tensors::{FileError, write_directory, write_file};
use eigenmix_trainer::{DeviceChoice, Outcome, Run};

use crate::evaluation::{self, EvaluationRequest, Splits};
use crate::experiment::EvaluationConfig;
use crate::listener::Listener;
use crate::model_request::ModelRequest;
use crate::{BadInput, ExperimentError};

const BATCH_SIZE: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// Whether `directory` is that of an evaluation with this configuration.
///
/// # Errors
/// If its `config.toml` cannot be read.
pub(super) fn is_same(
    config: &EvaluationConfig,
    directory: &Path,
) -> Result<bool, ExperimentError> {
    let path = directory.join(Run::CONFIG);
    if !path.is_file() {
        return Ok(false);
    }
    let earlier = std::fs::read_to_string(&path).map_err(FileError::io("read", &path))?;
    Ok(earlier == toml::to_string(config)?)
}

/// Evaluates on the test and on the validation split, if they exist.
///
/// # Errors
/// If model, adapter and data do not fit together, or the result cannot be written.
pub(super) fn evaluate(
    config: &EvaluationConfig,
    force: bool,
    device: DeviceChoice,
    listener: &dyn Listener,
) -> Result<Outcome, ExperimentError> {
    let started = Instant::now();
    let model = ModelRequest {
        base: config.base.model.clone(),
        weights: config.base.weights,
        adapter: Some(config.evaluate.clone()),
        head: config.head.clone(),
        prompts: config.task.prompts.clone(),
        threshold: config.task.threshold,
        device,
        ..ModelRequest::default()
    };
    let request = EvaluationRequest {
        model: &model,
        data: &|_, input| {
            let mut data = config.data.clone();
            input.fill(&mut data);
            Ok(data)
        },
        remedy: "the [data] table changes it",
        splits: Splits::Present(&[Split::Test, Split::Validation]),
        metrics: &config.task.metrics,
        batch_size: BATCH_SIZE,
    };
    let [mut test, mut validation] = [None, None];
    let evaluation = evaluation::evaluate(&request, listener)?;
    for measured in evaluation.splits {
        match measured.split {
            Split::Test => test = Some(measured.metrics),
            _ => validation = Some(measured.metrics),
        }
    }
    if test.is_none() && validation.is_none() {
        let problem = format!(
            "`{}` has neither a test nor a validation split",
            config.data.path
        );
        return Err(BadInput(problem).into());
    }
    let output = Path::new(&config.output);
    let outcome = Outcome {
        output: output.to_owned(),
        seconds: started.elapsed().as_secs_f64(),
        bytes: evaluation.adapter_bytes,
        validation,
        test,
        ..Outcome::default()
    };
    write_directory(output, force, |staging| {
        let text = toml::to_string(config)?;
        write_file(&staging.join(Run::CONFIG), text.as_bytes())?;
        Ok::<_, ExperimentError>(outcome.write_to(staging)?)
    })?;
    Ok(outcome)
}
