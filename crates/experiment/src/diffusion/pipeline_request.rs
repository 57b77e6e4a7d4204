//! A request for a diffusion model with adapters.

use std::path::{Path, PathBuf};

use eigenmix_adapter::{Adapter, AdapterFile};
use eigenmix_diffusion::{AdaptedPipeline, Part, Pipeline, PipelineAdapter};
use eigenmix_hub::{FileRequest, Hub, Location};
use eigenmix_models::Precision;
use eigenmix_trainer::{locate_adapter, locate_pipeline};

use crate::error::message;
use crate::listener::Listener;
use crate::option_names::OptionNames;
use crate::{BadInput, ExperimentError};

/// An adapter and how strongly it works.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedAdapter {
    /// The adapter as the user named it.
    pub name: String,
    pub weight: f32,
}

impl WeightedAdapter {
    /// `ADAPTER`, or `ADAPTER:NUMBER` with a weight.
    pub fn parse(argument: &str) -> Self {
        let whole = |name: &str| Self {
            name: name.to_owned(),
            weight: 1.0,
        };
        match argument.rsplit_once(':') {
            // A file may be called so.
            Some(_) if Path::new(argument).exists() => whole(argument),
            Some((name, weight)) => match weight.parse::<f32>() {
                Ok(weight) if weight.is_finite() && !name.is_empty() => Self {
                    name: name.to_owned(),
                    weight,
                },
                _ => whole(argument),
            },
            None => whole(argument),
        }
    }
}

/// A diffusion model to run.
#[derive(Clone, Debug)]
pub struct PipelineRequest {
    /// The base model: a directory in diffusers' form, a file of the original layout, or a Hub id.
    pub base: String,
    /// Of a file: a directory or Hub id with the configurations and tokenizers that it lacks.
    pub config: Option<String>,
    /// How frozen weights are stored in memory.
    pub weights: Precision,
    pub adapters: Vec<WeightedAdapter>,
    /// Continue even if an adapter has tensors that do not fit the base model.
    pub allow_partial: bool,
    /// How messages name these options.
    pub names: OptionNames,
}

/// The directory of configurations and tokenizers that a path or a Hub id names; of the Hub nothing else is
/// fetched.
fn config_location(name: &str) -> Result<PathBuf, ExperimentError> {
    let id = match Location::parse(name)? {
        Location::Path(path) => return Ok(path),
        Location::Hub(id) => id,
    };
    let repository = Hub::from_env()?.open(&id)?;
    let files = repository.files().iter().filter(|file| is_of_config(file));
    let requests: Vec<FileRequest> = files.cloned().map(FileRequest::required).collect();
    Ok(repository.fetch(&requests)?)
}

/// Whether a file of a repository is a configuration or of a tokenizer.
fn is_of_config(file: &str) -> bool {
    const OF_TOKENIZER: [&str; 5] = [
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ];
    let (directory, name) = file.rsplit_once('/').unwrap_or(("", file));
    let is_part = Part::ALL.into_iter().any(|part| part.name() == directory);
    match directory {
        "" => name == "model_index.json" || OF_TOKENIZER.contains(&name),
        "tokenizer" | "tokenizer_2" => OF_TOKENIZER.contains(&name),
        "scheduler" => name == "scheduler_config.json",
        _ => is_part && name == "config.json",
    }
}

/// Whether an argument names a diffusion model of this machine.
pub fn is_pipeline(base: &str) -> bool {
    Pipeline::is_at(Path::new(base))
}

/// Says which tensors of parts that are loaded nothing reads.
pub(super) fn warn_of_unread(
    model: &AdaptedPipeline,
    parts: &[Part],
    listener: &dyn Listener,
) -> Result<(), ExperimentError> {
    for note in model.unread_notes(parts)? {
        listener.warn(&note);
    }
    Ok(())
}

impl PipelineRequest {
    /// # Errors
    /// If the model or an adapter is not there or damaged, or an adapter is for another kind of model.
    pub fn open(&self, listener: &dyn Listener) -> Result<AdaptedPipeline, ExperimentError> {
        let directory = locate_pipeline(&self.base)?;
        let mut pipeline = Pipeline::open(&directory, self.weights)?;
        if let Some(config) = &self.config {
            pipeline = pipeline.with_config(&config_location(config)?)?;
        }
        for note in pipeline.notes() {
            listener.warn(&note);
        }
        let adapters = self.adapters.iter().map(|adapter| {
            let opened = self.adapter(&adapter.name, listener)?;
            Ok::<_, ExperimentError>((opened, adapter.weight))
        });
        let adapters = adapters.collect::<Result<Vec<_>, _>>()?;
        Ok(AdaptedPipeline::new(
            pipeline,
            adapters,
            self.allow_partial,
        )?)
    }

    fn adapter(
        &self,
        name: &str,
        listener: &dyn Listener,
    ) -> Result<PipelineAdapter, ExperimentError> {
        let path = locate_adapter(name)?;
        let read = |path: &Path| self.read(path, name, listener);
        if !path.join("adapter_config.json").is_file()
            && let Some(parts) = PipelineAdapter::from_directories(&path, read)?
        {
            return Ok(parts);
        }
        let adapter = self.read(&path, name, listener)?;
        Ok(PipelineAdapter::of(&path.display().to_string(), adapter))
    }

    fn read(
        &self,
        path: &Path,
        name: &str,
        listener: &dyn Listener,
    ) -> Result<Adapter, ExperimentError> {
        let file = AdapterFile::open(path)?.with_location(name);
        match file.require_clean() {
            Ok(()) => {}
            Err(error) if self.allow_partial => listener.warn(&message(&error)),
            Err(error) => {
                let (problem, option) = (message(&error), self.names.of("allow_partial"));
                let problem = format!("{problem}; {option} continues without them");
                return Err(BadInput(problem).into());
            }
        }
        Ok(file.load()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_repository_with_configurations_no_weights_are_fetched() {
        for file in [
            "model_index.json",
            "unet/config.json",
            "tokenizer_2/merges.txt",
            "scheduler/scheduler_config.json",
            "vocab.json",
        ] {
            assert!(is_of_config(file), "{file}");
        }
        for file in [
            "unet/diffusion_pytorch_model.safetensors",
            "pytorch_model.bin",
            "config.json",
            "safety_checker/config.json",
        ] {
            assert!(!is_of_config(file), "{file}");
        }
    }

    #[test]
    fn a_number_behind_a_colon_is_the_weight_of_an_adapter() {
        let parsed = |argument: &str| {
            let WeightedAdapter { name, weight } = WeightedAdapter::parse(argument);
            (name, weight)
        };
        assert_eq!(parsed("a/b"), ("a/b".to_owned(), 1.0));
        assert_eq!(parsed("a/b:0.7"), ("a/b".to_owned(), 0.7));
        assert_eq!(parsed("a/b@main:-0.5"), ("a/b@main".to_owned(), -0.5));
        assert_eq!(parsed("C:file"), ("C:file".to_owned(), 1.0));
        assert_eq!(parsed("a:nan"), ("a:nan".to_owned(), 1.0));
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a:2");
        std::fs::write(&path, "").expect("a file");
        let path = path.display().to_string();
        assert_eq!(parsed(&path), (path.clone(), 1.0));
    }
}
