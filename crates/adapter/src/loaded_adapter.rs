//! An adapter in memory under a name.

use std::borrow::Cow;

use crate::adapter_source::{AdapterSource, ModuleShape};
use crate::{Adapter, AdapterError, AdapterFile, LoraModule, PeftConfig, Source};

/// An adapter in memory, with the name by which reports and errors call it.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedAdapter {
    pub source: Source,
    pub adapter: Adapter,
}

impl LoadedAdapter {
    /// Reads all of `file`.
    ///
    /// # Errors
    /// If a tensor can't be read or isn't finite.
    pub fn read(file: &AdapterFile) -> Result<Self, AdapterError> {
        Ok(Self {
            adapter: file.load()?,
            source: file.source(),
        })
    }
}

impl AdapterSource for LoadedAdapter {
    fn location(&self) -> &str {
        &self.source.location
    }

    fn source(&self) -> Source {
        self.source.clone()
    }

    fn config(&self) -> &PeftConfig {
        &self.adapter.config
    }

    fn shapes(&self) -> Result<Vec<(String, ModuleShape)>, AdapterError> {
        let modules = self.adapter.modules.iter();
        Ok(modules
            .map(|(path, module)| {
                let shape = ModuleShape {
                    d_out: module.d_out(),
                    d_in: module.d_in(),
                    rank: module.rank(),
                    layer: module.layer.clone(),
                };
                (path.clone(), shape)
            })
            .collect())
    }

    fn module(&self, path: &str) -> Result<Cow<'_, LoraModule>, AdapterError> {
        let module = self
            .adapter
            .modules
            .get(path)
            .ok_or_else(|| AdapterError::NoSuchModule {
                path: self.location().into(),
                module: path.to_owned(),
                first: self
                    .adapter
                    .modules
                    .keys()
                    .next()
                    .cloned()
                    .unwrap_or_default(),
            })?;
        Ok(Cow::Borrowed(module))
    }

    fn whole_tensors(&self) -> Result<Vec<String>, AdapterError> {
        Ok(self
            .adapter
            .heads
            .keys()
            .chain(self.adapter.biases.keys())
            .cloned()
            .collect())
    }
}
