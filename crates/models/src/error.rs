//! What can be wrong with a base model or with an adapter for it.

use std::path::PathBuf;

use eigenmix_adapter::RowProblem;
use eigenmix_gguf::GgufError;
use eigenmix_quant::QuantError;
use eigenmix_tensors::FileError;

/// Why a base model could not be described or loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("`{path}` is not a base model: {expected} is missing; it should be a directory in Hugging Face format (config.json, model.safetensors, tokenizer.json)", path = .path.display())]
    NotACheckpoint {
        path: PathBuf,
        expected: &'static str,
    },
    #[error(
        "`{path}` has a config.json and no `{expected}`; only safetensors files are read: download those of the model, or save it as such",
        path = .path.display()
    )]
    NoWeights { path: PathBuf, expected: String },
    #[error("`{path}` cannot be read", path = .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{path}` is not valid JSON: {source}", path = .path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{path}`: {problem}", path = .path.display())]
    Config { path: PathBuf, problem: String },
    #[error(
        "`{index}` names `{shard}`, which is missing; download or copy the whole checkpoint",
        index = .index.display()
    )]
    MissingShard { index: PathBuf, shard: String },
    #[error("`{path}` is a `{found}` model; supported are {supported}", path = .path.display())]
    Architecture {
        path: PathBuf,
        found: String,
        supported: &'static str,
    },
    #[error("a {model} has no head for {task}")]
    Task {
        model: &'static str,
        task: &'static str,
    },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(
        "the base model's checkpoint has no tensor `{name}`; is it another kind of checkpoint than its config.json says?"
    )]
    MissingTensor { name: String },
    #[error(
        "tensor `{name}` has shape {found:?} in the checkpoint, but its config.json implies {expected:?}"
    )]
    TensorShape {
        name: String,
        expected: Vec<usize>,
        found: Vec<usize>,
    },
    #[error(
        "the classification head `{name}` is neither in the adapter nor in the base model; train one, or pass the adapter that it was saved with"
    )]
    MissingHead { name: String },
    #[error(
        "layer `{module}`: the adapter has [d_out, d_in] = {found:?}, the base model has {expected:?}; is it an adapter of another base model?"
    )]
    UpdateShape {
        module: String,
        expected: [usize; 2],
        found: [usize; 2],
    },
    #[error(
        "head `{name}`: the adapter has shape {found:?}, the base model with {labels} labels needs {expected:?}"
    )]
    HeadShape {
        name: String,
        labels: usize,
        expected: Vec<usize>,
        found: Vec<usize>,
    },
    #[error(
        "no module of the adapter is in the base model (the adapter has `{example}`, the base model `{known}`); it would have no effect. Is it an adapter of another base model?"
    )]
    NothingMatches { example: String, known: String },
    #[error(
        "{count} tensors of the adapter match nothing in the base model, the first is `{example}`; they would be ignored. Is it an adapter of another base model? evaluate, predict, forward and generate load the rest with --allow-partial"
    )]
    Unexpected { count: usize, example: String },
    #[error(
        "the adapter brings `{example}` in its trained state, which the model that runs here has no place for ({count} such tensors); `eigenmix export ADAPTER --merge-into-base BASE --out DIR` makes a checkpoint that has it, if the base model's does, and evaluate, predict, forward and generate load the rest with --allow-partial"
    )]
    NoPlace { count: usize, example: String },
    #[error(
        "`{name}`: the adapter brings it with shape {found:?}, the base model has {expected:?}; is it an adapter of another base model?"
    )]
    WholeShape {
        name: String,
        expected: Vec<usize>,
        found: Vec<usize>,
    },
    #[error(
        "`{table}` has {rows} tokens with the adapter, but `{output}` has {others}: the vocabulary was resized, and the adapter holds only one of the two tables. Save the adapter again in PEFT with both in modules_to_save (or with save_embedding_layers=True)"
    )]
    HalfResized {
        table: String,
        rows: usize,
        output: &'static str,
        others: usize,
    },
    #[error(transparent)]
    Rows(#[from] RowProblem),
    #[error(
        "{count} modules that the adapter's configuration targets are not in its file, the first is `{example}`; evaluate, predict, forward and generate load the rest with --allow-partial"
    )]
    Missing { count: usize, example: String },
    #[error(
        "the checkpoint has a bias `{name}`, which the layer of its architecture does not have; without it the model would be another one. Is its config.json that of the weights?"
    )]
    UnknownBias { name: String },
    #[error("tensor `{name}` is not what the checkpoint says: {source}; download it again")]
    Encoded {
        name: String,
        #[source]
        source: QuantError,
    },
    #[error(
        "the checkpoint has no tensor `{name}`, without which a quantised weight means nothing; a file of it is missing or damaged, download it again"
    )]
    MissingPart { name: String },
    #[error(
        "tensor `{name}` is quantised in a way that cannot be read: {problem}; take another copy of the model, or the unquantised one with base.weights = \"nf4\""
    )]
    QuantisedTensor { name: String, problem: String },
    #[error(
        "`{path}` is quantised ({method}) in a form that is not read; these are: bitsandbytes' 4 and 8 bits, GPTQ, AWQ and MLX in 4 bits, and GGUF files; take another copy of the model, or the unquantised one with base.weights = \"nf4\"",
        path = .path.display()
    )]
    Quantisation { path: PathBuf, method: String },
}

impl ModelError {
    /// What is wrong with the bytes of tensor `name`.
    pub(crate) fn encoded(name: &str) -> impl FnOnce(QuantError) -> Self {
        let name = name.to_owned();
        |source| Self::Encoded { name, source }
    }
}
