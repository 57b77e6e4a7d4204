//! Which files of a repository, or of any list of names, an adapter is made of.

use std::path::{Path, PathBuf};

use eigenmix_gguf::is_gguf_name;

use crate::weights_file::{WEIGHTS_NAME, Weights, is_shard};
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
    /// Whether the adapter is the one required file, as kohya, diffusers and llama.cpp write it, instead of a
    /// directory.
    pub is_single_file: bool,
}

impl RepositoryFiles {
    /// The files of the adapter in the repository `id`, which has files of these `names`.
    ///
    /// # Errors
    /// [`AdapterError::PickledWeights`] if the tensors are in a pickled file only, and
    /// [`AdapterError::SeveralInRepository`] if there is an adapter in each of several files.
    pub fn of(id: &str, names: &[String]) -> Result<Self, AdapterError> {
        let has = |name: &str| names.iter().any(|file| file == name);
        let weights = Weights::among(has)
            .map_err(|name| AdapterError::PickledWeights(PathBuf::from(format!("{id}/{name}"))))?;
        if !has(PeftConfig::FILE_NAME) {
            let files = tensor_files(names);
            if let [name] = files[..] {
                return Ok(Self {
                    required: vec![name.to_owned()],
                    optional: Vec::new(),
                    is_single_file: true,
                });
            }
            if !files.is_empty() && weights.is_none() {
                return Err(AdapterError::SeveralInRepository {
                    id: id.to_owned(),
                    example: file_of(id, files[0]),
                    files: files.join(", "),
                });
            }
        }
        let mut required = vec![PeftConfig::FILE_NAME.to_owned()];
        match weights {
            Some(Weights::File(name)) => required.push(name.to_owned()),
            Some(Weights::Shards(index)) => {
                required.push(index.to_owned());
                let is_shard = |name: &&String| !name.contains('/') && is_shard(Path::new(name));
                let shards: Vec<&String> = names.iter().filter(is_shard).collect();
                // A base model's shards may lie beside those that are called as the index is.
                let stem = index.split('.').next().unwrap_or(index);
                let has_stem = |name: &&&String| name.starts_with(stem);
                let is_mixed = shards.iter().any(|name| has_stem(&name));
                let own = shards.iter().filter(|name| !is_mixed || has_stem(name));
                required.extend(own.map(|name| (*name).clone()));
            }
            // The Hub says that there is none.
            None => required.push(WEIGHTS_NAME.to_owned()),
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

/// The files at the root of a repository that may be adapters by themselves: the only .safetensors file if
/// there is just one, else the only .gguf file, else all of both.
fn tensor_files(names: &[String]) -> Vec<&str> {
    let such = |is_such: &dyn Fn(&str) -> bool| -> Vec<&str> {
        let at_root = names.iter().filter(|name| !name.contains('/'));
        at_root
            .map(String::as_str)
            .filter(|&name| is_such(name))
            .collect()
    };
    let tensors = such(&|name| name.ends_with(".safetensors"));
    let gguf = such(&|name| is_gguf_name(name));
    match (&tensors[..], &gguf[..]) {
        ([_], _) => tensors,
        (_, [_]) => gguf,
        _ => [tensors, gguf].concat(),
    }
}

/// One file of a repository as an argument names it: the revision follows the file.
fn file_of(id: &str, file: &str) -> String {
    match id.split_once('@') {
        Some((repository, revision)) => format!("{repository}:{file}@{revision}"),
        None => format!("{id}:{file}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_gguf_file_of_a_repository_is_its_adapter() {
        let names = |own: &str| [".gitattributes", "README.md", own].map(str::to_owned);
        for own in ["lora-f16.gguf", "LORA.GGUF"] {
            let files = RepositoryFiles::of("org/name", &names(own)).expect("an adapter");
            assert_eq!(files.required, [own]);
            assert!(files.is_single_file);
        }
        let names = names("lora-f16.gguf");
        let several = [&names[..], &["lora-q8_0.gguf".to_owned()]].concat();
        let error = RepositoryFiles::of("org/name@v1", &several).expect_err("several adapters");
        let error = error.to_string();
        let words = "name one of them: `org/name:lora-f16.gguf@v1`";
        assert!(error.contains(words), "{error}");
        // Other tensors beside a pool of adapters in folders are none of it.
        let files = RepositoryFiles::of("org/name", &["README.md".to_owned()]);
        let files = files.expect("names to ask for");
        assert!(!files.is_single_file);
    }

    #[test]
    fn the_shards_of_an_index_are_needed_by_whatever_name_and_those_of_a_checkpoint_below_are_not()
    {
        let names = [
            "adapter_config.json",
            "adapter_model.safetensors.index.json",
            "adapter_model-00001-of-00002.safetensors",
            "adapter_model-00002-of-00002.safetensors",
            "adapter_model-old.safetensors",
            "adapter_model-00001-of-00002.bin",
            "checkpoint-5/adapter_model-00001-of-00002.safetensors",
        ];
        let files = RepositoryFiles::of("org/name", &names.map(str::to_owned)).expect("an adapter");
        assert_eq!(files.required, names[..4]);
        let of_base = "model-00001-of-00004.safetensors";
        let beside = [&names[..], &[of_base]].concat();
        let beside: Vec<String> = beside.into_iter().map(str::to_owned).collect();
        let files = RepositoryFiles::of("org/name", &beside).expect("an adapter");
        assert_eq!(files.required, names[..4]);
        let alone = [names[0], names[1], of_base].map(str::to_owned);
        let files = RepositoryFiles::of("org/name", &alone).expect("an adapter");
        assert_eq!(files.required, alone);
    }
}
