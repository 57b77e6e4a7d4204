//! Writing an adapter in the dialect that it came in, or in another.

use std::path::Path;

use eigenmix_gguf::is_gguf_name;
use eigenmix_tensors::{FileError, write_directory, write_file};
use serde_json::Value;

use crate::dialect::gguf_writing;
use crate::weights_file::MLX_WEIGHTS_NAME;
use crate::{Adapter, AdapterError, Dialect, PeftConfig, Provenance, SaveOptions, Style};

impl Adapter {
    /// Writes the adapter as `style` says.
    ///
    /// PEFT's dialect is that of [`Adapter::save`]. GGUF writes the file `path`. Kohya's and diffusers' write `path` if that ends in
    /// `.safetensors`, else the file in a directory `path`; where it came from then stands in the
    /// metadata under `eigenmix`, or in `eigenmix.json` in the directory. Factors, alphas, names and
    /// metadata of a module that did not change are the very ones of the file.
    ///
    /// # Errors
    /// If `path` exists and `options.force` is not set, a module or a head has no place in the dialect,
    /// a value is not finite or too large for its dtype, or something cannot be written.
    pub fn save_as(
        &self,
        path: &Path,
        style: &Style,
        options: &SaveOptions,
    ) -> Result<(), AdapterError> {
        let is_file = names_file(path);
        if is_file && style.dialect.extension().is_none() {
            return Err(AdapterError::NotOneFile {
                path: path.to_owned(),
                dialect: style.dialect,
            });
        }
        if style.dialect == Dialect::Peft {
            return match style.common_part(self.modules.keys())? {
                None => self.save(path, options),
                Some(part) => self.of_part(&part)?.save(path, options),
            };
        }
        if let Some(name) = self.heads.keys().chain(self.biases.keys()).next() {
            return Err(AdapterError::NotConvertible {
                module: name.clone(),
                dialect: style.dialect,
                problem: "it is a tensor of the base model that was trained whole".to_owned(),
            });
        }
        if style.dialect == Dialect::Gguf {
            return gguf_writing::save(self, path, style, options);
        }
        let mut writing = Dialect::write(self, style)?;
        if is_file {
            if path.symlink_metadata().is_ok() && !options.force {
                return Err(FileError::AlreadyExists(path.to_owned()).into());
            }
            if let Some(provenance) = &options.provenance {
                let text = provenance.to_json(path)?;
                writing.metadata.insert("eigenmix".to_owned(), text);
            }
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(FileError::io("create", parent))?;
            }
            return writing.write(path, style.dtype);
        }
        write_directory(path, options.force, |staging| {
            let name = match style.dialect {
                Dialect::Mlx => MLX_WEIGHTS_NAME,
                _ => style.file_name(),
            };
            writing.write(&staging.join(name), style.dtype)?;
            if let Some(config) = &writing.config {
                let text = format!("{:#}\n", Value::Object(config.clone()));
                write_file(&staging.join(PeftConfig::FILE_NAME), text.as_bytes())?;
            }
            Ok(options.write_beside(staging)?)
        })
    }

    /// The same adapter with `part` taken away in front of the paths of its modules.
    fn of_part(&self, part: &str) -> Result<Self, AdapterError> {
        let mut adapter = self.clone();
        adapter.modules = self
            .modules
            .iter()
            .map(|(path, module)| {
                let inner = path
                    .strip_prefix(part)
                    .and_then(|rest| rest.strip_prefix('.'));
                (inner.unwrap_or(path).to_owned(), module.clone())
            })
            .collect();
        let ranks = adapter
            .modules
            .iter()
            .map(|(path, module)| (path.clone(), module.rank()))
            .collect();
        adapter.config = PeftConfig::of_modules(self.config.base_model(), &ranks)?;
        Ok(adapter)
    }
}

/// Whether the name of an output is that of a file, not of a directory.
fn names_file(path: &Path) -> bool {
    let found = path.extension();
    let mut extensions = Dialect::ALL.into_iter().filter_map(Dialect::extension);
    is_gguf_name(path) || extensions.any(|extension| found.is_some_and(|found| found == extension))
}

impl Style {
    /// The name of the one file in a directory.
    fn file_name(&self) -> &str {
        match &self.file_name {
            Some(name) => name,
            // Where diffusers looks for it.
            None => "pytorch_lora_weights.safetensors",
        }
    }
}

impl Provenance {
    pub(crate) fn to_json(&self, path: &Path) -> Result<String, FileError> {
        serde_json::to_string_pretty(self).map_err(|source| FileError::Json {
            path: path.to_owned(),
            source,
        })
    }
}
