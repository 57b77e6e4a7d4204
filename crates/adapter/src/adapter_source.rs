//! Where the modules of an adapter come from: a file that is read module by module, or memory.

use std::borrow::Cow;

use crate::{AdapterError, AdapterFile, LayerKind, LoraModule, PeftConfig, Source};

/// The dimensions of one adapted layer: A is `[rank, d_in]`, B is `[d_out, rank]`; and its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleShape {
    pub d_out: usize,
    pub d_in: usize,
    pub rank: usize,
    pub layer: LayerKind,
}

/// An adapter that can be asked for one module at a time, from many threads.
pub trait AdapterSource: Sync {
    /// Its name in reports and errors.
    fn location(&self) -> &str;

    /// Its name and fingerprint.
    fn source(&self) -> Source;

    /// Its configuration.
    fn config(&self) -> &PeftConfig;

    /// The base model that it names.
    fn base_model(&self) -> Option<&str> {
        self.config().base_model()
    }

    /// Its modules and their dimensions, without reading their values.
    ///
    /// # Errors
    /// If they can't be found out.
    fn shapes(&self) -> Result<Vec<(String, ModuleShape)>, AdapterError>;

    /// The factors of one module.
    ///
    /// # Errors
    /// If it doesn't have the module, or it can't be read.
    fn module(&self, path: &str) -> Result<Cow<'_, LoraModule>, AdapterError>;

    /// The names of the tensors that it replaces in the base model instead of updating them: heads
    /// and biases.
    ///
    /// # Errors
    /// If they can't be found out.
    fn whole_tensors(&self) -> Result<Vec<String>, AdapterError>;
}

impl AdapterSource for AdapterFile {
    fn location(&self) -> &str {
        self.location()
    }

    fn source(&self) -> Source {
        self.source()
    }

    fn config(&self) -> &PeftConfig {
        self.config()
    }

    fn shapes(&self) -> Result<Vec<(String, ModuleShape)>, AdapterError> {
        self.module_paths()
            .map(|path| {
                let (rank, d_in, d_out) = self.shape(path)?;
                let shape = ModuleShape {
                    d_out,
                    d_in,
                    rank,
                    layer: self.layer(path)?.clone(),
                };
                Ok((path.to_owned(), shape))
            })
            .collect()
    }

    fn module(&self, path: &str) -> Result<Cow<'_, LoraModule>, AdapterError> {
        Ok(Cow::Owned(self.module(path)?))
    }

    fn whole_tensors(&self) -> Result<Vec<String>, AdapterError> {
        let heads = self.head_names().map(str::to_owned);
        Ok(heads.chain(self.bias_names().map(str::to_owned)).collect())
    }
}

impl<T: AdapterSource + ?Sized> AdapterSource for &T {
    fn location(&self) -> &str {
        (**self).location()
    }

    fn source(&self) -> Source {
        (**self).source()
    }

    fn config(&self) -> &PeftConfig {
        (**self).config()
    }

    fn shapes(&self) -> Result<Vec<(String, ModuleShape)>, AdapterError> {
        (**self).shapes()
    }

    fn module(&self, path: &str) -> Result<Cow<'_, LoraModule>, AdapterError> {
        (**self).module(path)
    }

    fn whole_tensors(&self) -> Result<Vec<String>, AdapterError> {
        (**self).whole_tensors()
    }
}
