//! A cell that trains nothing: an adapter evaluated as `eigenmix evaluate` does it.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use eigenmix_data::Split;
use eigenmix_tensors::{FileError, write_directory, write_file};
use eigenmix_trainer::{DeviceChoice, Outcome};

use crate::adapter_argument::OpenedAdapter;
use crate::cli::{ModelArguments, ZeroShotArguments};
use crate::console::Console;
use crate::experiment::EvaluationConfig;
use crate::failure::BadInput;
use crate::image_labels::image_labels;
use crate::model_request::ModelRequest;

const CONFIG: &str = "config.toml";

/// Whether `directory` is that of an evaluation with this configuration.
///
/// # Errors
/// If its `config.toml` cannot be read.
pub(super) fn is_same(config: &EvaluationConfig, directory: &Path) -> anyhow::Result<bool> {
    let path = directory.join(CONFIG);
    if !path.is_file() {
        return Ok(false);
    }
    let earlier = std::fs::read_to_string(&path).map_err(FileError::io("read", &path))?;
    Ok(earlier == toml::to_string(config)?)
}

/// Evaluates on the test split, or where there is none on the validation split.
///
/// # Errors
/// If model, adapter and data do not go together, or the result cannot be written.
pub(super) fn evaluate(
    config: &EvaluationConfig,
    force: bool,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let model = ModelArguments {
        base: config.base.model.clone(),
        weights: config.base.weights,
        adapter: Some(config.evaluate.clone()),
        head: config.head.clone(),
        allow_partial: false,
    };
    let zero_shot = ZeroShotArguments {
        prompts: config.task.prompts.clone(),
        labels: Vec::new(),
    };
    let request = ModelRequest::open(&model, &zero_shot, device)?;
    let base = &request.base;
    let model = request.load(&|| Ok(image_labels(&config.data, Split::Test)?), console)?;
    let kind = model.task_kind(base);
    let data = kind.open(base, &config.data, &config.task.metrics)?;
    let targets = model.targets()?;
    let mut figures = [None, None];
    for (place, split) in [Split::Test, Split::Validation].into_iter().enumerate() {
        let Some(found) = data.optional_split(split, targets.as_ref())? else {
            continue;
        };
        let metrics = match config.task.metrics.is_empty() {
            true => found.examples.default_metrics(),
            false => config.task.metrics.clone(),
        };
        let batch_size = EVALUATION_BATCH_SIZE;
        let tokenizer = data.tokenizer();
        let evaluation =
            model.evaluate(&*found.examples, &metrics, batch_size, tokenizer, &|_| {})?;
        figures[place] = Some(evaluation.metrics);
    }
    let [test, validation] = figures;
    if test.is_none() && validation.is_none() {
        let problem = format!(
            "`{}` has neither a test nor a validation split",
            config.data.path
        );
        return Err(BadInput(problem).into());
    }
    let adapter = OpenedAdapter::open(&config.evaluate)?;
    let output = Path::new(&config.output);
    let outcome = Outcome {
        output: output.to_owned(),
        seconds: started.elapsed().as_secs_f64(),
        bytes: adapter.bytes(),
        validation,
        test,
        ..Outcome::default()
    };
    write_directory(output, force, |staging| {
        let text = toml::to_string(config)?;
        write_file(&staging.join(CONFIG), text.as_bytes())?;
        anyhow::Ok(outcome.write_to(staging)?)
    })?;
    Ok(outcome)
}

const EVALUATION_BATCH_SIZE: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
