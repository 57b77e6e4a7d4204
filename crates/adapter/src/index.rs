//! Which tensors of an adapter file belong together, checked before any of them is read.

use std::collections::BTreeMap;

use crate::file::UnexpectedTensor;
use crate::key::{Part, Role, role_of};
use crate::{AdapterError, PeftConfig, TensorFile};

/// The tensors of one module and the sizes they agree on.
#[derive(Clone, Debug)]
pub(crate) struct ModuleEntry {
    pub(crate) keys: BTreeMap<Part, String>,
    pub(crate) rank: usize,
    pub(crate) d_in: usize,
    pub(crate) d_out: usize,
}

/// Everything in a file, by what it is. Heads and biases map their names to the keys in the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileIndex {
    pub(crate) modules: BTreeMap<String, ModuleEntry>,
    pub(crate) heads: BTreeMap<String, String>,
    pub(crate) biases: BTreeMap<String, String>,
    pub(crate) unexpected: Vec<UnexpectedTensor>,
}

impl FileIndex {
    /// Sorts the tensors of `file` by what they are and checks that every module is complete and of
    /// the rank that `config` says.
    pub(crate) fn build(file: &TensorFile, config: &PeftConfig) -> Result<Self, AdapterError> {
        let mut index = Self::default();
        let mut parts: BTreeMap<String, BTreeMap<Part, String>> = BTreeMap::new();
        for key in file.names() {
            let replaced = match role_of(key, config) {
                Role::Factor(module, part) => parts
                    .entry(module.to_owned())
                    .or_default()
                    .insert(part, key.to_owned()),
                Role::Head(name) => index.heads.insert(name, key.to_owned()),
                Role::Bias(name) => index.biases.insert(name, key.to_owned()),
                Role::Unexpected(reason) => {
                    index.unexpected.push(UnexpectedTensor {
                        name: key.to_owned(),
                        reason,
                    });
                    None
                }
            };
            if let Some(first) = replaced {
                return Err(AdapterError::DuplicateTensor {
                    path: file.path().to_owned(),
                    first,
                    second: key.to_owned(),
                });
            }
        }
        for (module, keys) in parts {
            if is_convolution(file, &keys)? {
                index
                    .unexpected
                    .extend(keys.into_values().map(|name| UnexpectedTensor {
                        name,
                        reason: "LoRA on a convolution, which is not supported",
                    }));
                continue;
            }
            let entry = ModuleEntry::check(file, config, &module, keys)?;
            index.modules.insert(module, entry);
        }
        if index.modules.is_empty() {
            return Err(AdapterError::NoModules {
                path: file.path().to_owned(),
                found: describe(&index, file),
            });
        }
        Ok(index)
    }
}

impl ModuleEntry {
    fn check(
        file: &TensorFile,
        config: &PeftConfig,
        module: &str,
        keys: BTreeMap<Part, String>,
    ) -> Result<Self, AdapterError> {
        let required = [
            (Part::A, true),
            (Part::B, true),
            (Part::Mixer, config.use_mixer()),
            (Part::Magnitude, config.use_dora()),
            (Part::Bias, config.lora_bias()),
        ];
        if let Some((missing, _)) = required
            .into_iter()
            .find(|(part, required)| *required && !keys.contains_key(part))
        {
            return Err(AdapterError::IncompleteModule {
                path: file.path().to_owned(),
                module: module.to_owned(),
                missing: missing.suffix(),
            });
        }

        let wrong_shape =
            |key: &str, expected: String, found: &[usize]| AdapterError::TensorShape {
                path: file.path().to_owned(),
                tensor: key.to_owned(),
                expected,
                found: found.to_owned(),
            };
        let (a, b) = (&keys[&Part::A], &keys[&Part::B]);
        let &[rank, d_in] = file.shape(a)? else {
            return Err(wrong_shape(a, "[rank, d_in]".to_owned(), file.shape(a)?));
        };
        let d_out = match file.shape(b)? {
            &[d_out, inner] if inner == rank => d_out,
            found => {
                return Err(wrong_shape(
                    b,
                    format!("[d_out, {rank}], as lora_A has rank {rank}"),
                    found,
                ));
            }
        };
        if rank == 0 || d_in == 0 || d_out == 0 {
            let (key, found) = if d_out == 0 {
                (b, [d_out, rank])
            } else {
                (a, [rank, d_in])
            };
            return Err(wrong_shape(key, "sizes above 0".to_owned(), &found));
        }
        if rank != config.rank_of(module) {
            return Err(AdapterError::RankMismatch {
                path: file.path().to_owned(),
                module: module.to_owned(),
                expected: config.rank_of(module),
                found: rank,
            });
        }
        for (&part, key) in &keys {
            let found = file.shape(key)?;
            let (fits, expected) = match part {
                Part::A | Part::B => continue,
                Part::Mixer => (found == [rank, rank], format!("[{rank}, {rank}]")),
                Part::Magnitude | Part::Bias => (
                    found == [d_out] || found == [d_out, 1] || found == [1, d_out],
                    format!("[{d_out}], the output size of its module"),
                ),
            };
            if !fits {
                return Err(wrong_shape(key, expected, found));
            }
        }
        Ok(Self {
            keys,
            rank,
            d_in,
            d_out,
        })
    }
}

fn is_convolution(file: &TensorFile, keys: &BTreeMap<Part, String>) -> Result<bool, AdapterError> {
    for part in [Part::A, Part::B] {
        if let Some(key) = keys.get(&part)
            && file.shape(key)?.len() > 2
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn describe(index: &FileIndex, file: &TensorFile) -> String {
    match (index.unexpected.first(), file.names().next()) {
        (_, None) => "the file has no tensors at all".to_owned(),
        (Some(first), _) => {
            format!("{} tensors, such as {first}", file.names().count())
        }
        (None, Some(first)) => format!("only heads and biases, such as `{first}`"),
    }
}
