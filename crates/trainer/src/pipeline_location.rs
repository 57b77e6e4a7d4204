//! Where a diffusion model is, and which of its files are fetched from the Hub.

use std::path::PathBuf;

use eigenmix_hub::{FileRequest, Hub, Location};

use crate::TrainerError;

/// The file that says what a diffusion model consists of.
const INDEX: &str = "model_index.json";
/// The parts with weights, and how their files begin.
const PARTS: [(&str, &str); 4] = [
    ("unet", "diffusion_pytorch_model"),
    ("vae", "diffusion_pytorch_model"),
    ("text_encoder", "model"),
    ("text_encoder_2", "model"),
];
/// The directories of which every small file is needed.
const TOKENIZERS: [&str; 2] = ["tokenizer", "tokenizer_2"];

/// The directory of a diffusion model named by a path or a Hub id, fetching what is needed of it.
///
/// # Errors
/// If there is none.
pub fn locate_pipeline(name: &str) -> Result<PathBuf, TrainerError> {
    locate(name, needed_files)
}

/// The same without weights.
///
/// # Errors
/// If there is none.
pub(crate) fn locate_pipeline_config(name: &str) -> Result<PathBuf, TrainerError> {
    locate(name, |files| {
        let mut needed = needed_files(files);
        needed.retain(|file| !file.ends_with(".safetensors"));
        needed
    })
}

fn locate(
    name: &str,
    needed_files: impl Fn(&[String]) -> Vec<String>,
) -> Result<PathBuf, TrainerError> {
    let id = match Location::parse(name)? {
        Location::Path(path) => return Ok(path),
        Location::Hub(id) => id,
    };
    let repository = Hub::from_env()?.open(&id)?;
    let needed = needed_files(repository.files());
    let requests: Vec<FileRequest> = needed.into_iter().map(FileRequest::required).collect();
    Ok(repository.fetch(&requests)?)
}

/// Of the same weights in several forms one is taken: whole before half, safetensors only.
fn needed_files(files: &[String]) -> Vec<String> {
    let has = |name: &String| files.contains(name);
    let mut needed: Vec<String> = vec![
        INDEX.to_owned(),
        "scheduler/scheduler_config.json".to_owned(),
    ];
    for (part, stem) in PARTS {
        needed.push(format!("{part}/config.json"));
        let weights = ["safetensors", "fp16.safetensors"];
        let mut weights = weights
            .map(|ending| format!("{part}/{stem}.{ending}"))
            .into_iter();
        needed.extend(weights.find(&has));
    }
    let is_of_tokenizer = |file: &&String| {
        let directory = file.split_once('/').map(|(directory, _)| directory);
        directory.is_some_and(|directory| TOKENIZERS.contains(&directory))
    };
    needed.extend(files.iter().filter(is_of_tokenizer).cloned());
    needed.retain(has);
    needed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_of_every_weight_is_fetched_with_what_describes_it() {
        let files = [
            "README.md",
            "model_index.json",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.fp16.safetensors",
            "text_encoder/pytorch_model.bin",
            "tokenizer/merges.txt",
            "tokenizer/vocab.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "unet/diffusion_pytorch_model.safetensors",
            "v1-5-pruned.safetensors",
        ];
        let files = files.map(str::to_owned);
        assert_eq!(
            needed_files(&files),
            [
                "model_index.json",
                "scheduler/scheduler_config.json",
                "unet/config.json",
                "unet/diffusion_pytorch_model.safetensors",
                "text_encoder/config.json",
                "text_encoder/model.fp16.safetensors",
                "tokenizer/merges.txt",
                "tokenizer/vocab.json",
            ]
        );
    }
}
