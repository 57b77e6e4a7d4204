//! What can be wrong with a diffusion model, or with an adapter for it.

use std::path::PathBuf;

use eigenmix_adapter::AdapterError;
use eigenmix_data::DataError;
use eigenmix_models::ModelError;
use eigenmix_tensors::FileError;

use crate::Part;

/// Why a diffusion model could not be read or run.
#[derive(Debug, thiserror::Error)]
pub enum DiffusionError {
    #[error(
        "`{path}` is no diffusion model: neither in diffusers' form, a directory with `unet`, `vae`, `text_encoder`, `tokenizer` and `scheduler`, nor a .safetensors file of the original layout with `model.diffusion_model.…`: none of its parts is there",
        path = .path.display()
    )]
    NotAPipeline { path: PathBuf },
    #[error(
        "`{path}` has no `{part}` ({place}); {works}",
        path = .path.display()
    )]
    MissingPart {
        path: PathBuf,
        part: Part,
        /// What is not there of it.
        place: String,
        /// What can be done without it.
        works: String,
    },
    #[error("`{path}`: {problem}", path = .path.display())]
    Config { path: PathBuf, problem: String },
    #[error("`{path}`: `{option}` is {found}, which is not built here: {supported}", path = .path.display())]
    Option {
        path: PathBuf,
        option: &'static str,
        found: String,
        supported: &'static str,
    },
    #[error(
        "adapter `{location}` is for {adapter}, the base model is {base}: the two have other layers under the same names, so that it cannot be used with this one"
    )]
    OtherBase {
        location: String,
        adapter: &'static str,
        base: &'static str,
    },
    #[error(
        "adapter `{location}` has {count} modules that are of no part of a diffusion model, such as `{first}`; without them it is not the adapter that was trained: --allow-partial uses the rest"
    )]
    NoPart {
        location: String,
        first: String,
        count: usize,
    },
    #[error("{part}: {source}", source = .source)]
    Part {
        part: Part,
        #[source]
        source: ModelError,
    },
    #[error(
        "the {part} gave values that are not finite: its weights `{tensor}` are not (it is stored in {dtype}); take a copy of it in which they are, such as one in float32 or one that was repaired for half precision"
    )]
    BrokenWeights {
        part: Part,
        tensor: String,
        dtype: String,
    },
    #[error(
        "the {part} gave values that are not finite, though its weights are: the values that it was given are too large or not numbers"
    )]
    NotFinite { part: Part },
    #[error("{0}")]
    Input(String),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    File(#[from] FileError),
}
