//! Which files of a repository, or of any list of names, an adapter is made of.

use std::path::PathBuf;

use crate::weights_file::{INDEX_NAME, MLX_WEIGHTS_NAME, PICKLED_NAME, WEIGHTS_NAME};
use crate::{AdapterError, Labels, PeftConfig, Prompts, Provenance};

/// What has to be fetched of a repository to open the adapter in it.
///
/// ```
/// use eigenmix_adapter::RepositoryFiles;
///
/// let names = ["README.md", "adapter_config.json", "adapter_model.safetensors"];
/// let files = RepositoryFiles::of("org/name", &names.map(str::to_owned))?;
/// assert_eq!(files.required, ["adapter_config.json", "adapter_model.safetensors"]);
/// assert!(!files.is_single_file);
/// # Ok::<(), eigenmix_adapter::AdapterError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryFiles {
    /// Without these there is no adapter.
    pub required: Vec<String>,
    /// What the adapter has beside its tensors, where it has it.
    pub optional: Vec<&'static str>,
    /// Whether the adapter is the one required file, as kohya and diffusers write it, instead of a
    /// directory.
    pub is_single_file: bool,
}

impl RepositoryFiles {
    /// The files of the adapter in the repository `id`, which has files of these `names`.
    ///
    /// # Errors
    /// [`AdapterError::PickledWeights`] if the tensors are in a pickled file only.
    pub fn of(id: &str, names: &[String]) -> Result<Self, AdapterError> {
        let has = |name: &str| names.iter().any(|file| file == name);
        if has(PICKLED_NAME) && !has(WEIGHTS_NAME) && !has(INDEX_NAME) {
            let path = PathBuf::from(format!("{id}/{PICKLED_NAME}"));
            return Err(AdapterError::PickledWeights(path));
        }
        if !has(PeftConfig::FILE_NAME)
            && let Some(name) = only_tensor_file(names)
        {
            return Ok(Self {
                required: vec![name.to_owned()],
                optional: Vec::new(),
                is_single_file: true,
            });
        }
        let weights = match (has(WEIGHTS_NAME), has(INDEX_NAME), has(MLX_WEIGHTS_NAME)) {
            (false, true, _) => INDEX_NAME,
            (false, false, true) => MLX_WEIGHTS_NAME,
            _ => WEIGHTS_NAME,
        };
        let mut required = [PeftConfig::FILE_NAME, weights].map(str::to_owned).to_vec();
        if weights == INDEX_NAME {
            required.extend(names.iter().filter(|name| is_shard(name)).cloned());
        }
        Ok(Self {
            required,
            optional: vec![
                Labels::FILE_NAME,
                Prompts::FILE_NAME,
                Provenance::FILE_NAME,
                "chat_template.jinja",
                "tokenizer_config.json",
            ],
            is_single_file: false,
        })
    }
}

/// Whether a file is one of several that share the tensors of an adapter.
fn is_shard(name: &str) -> bool {
    name.starts_with("adapter_model-") && name.ends_with(".safetensors")
}

/// The file of tensors at the root of a repository, if there is one only.
fn only_tensor_file(files: &[String]) -> Option<&str> {
    let is_tensor_file = |name: &&String| name.ends_with(".safetensors") && !name.contains('/');
    let mut found = files.iter().filter(is_tensor_file);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}
