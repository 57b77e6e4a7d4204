//! Where the adapters of an extraction come from: files that are read module by module, or memory.

use std::borrow::Cow;

use eigenmix_adapter::{Adapter, AdapterError, AdapterFile, LayerKind, LoraModule, Source};

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

    /// The base model that it names.
    fn base_model(&self) -> Option<&str>;

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

    fn base_model(&self) -> Option<&str> {
        self.config().base_model()
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
        Ok(heads.chain(self.biases()?.into_keys()).collect())
    }
}

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

    fn base_model(&self) -> Option<&str> {
        self.adapter.config.base_model()
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

impl<T: AdapterSource + ?Sized> AdapterSource for &T {
    fn location(&self) -> &str {
        (**self).location()
    }

    fn source(&self) -> Source {
        (**self).source()
    }

    fn base_model(&self) -> Option<&str> {
        (**self).base_model()
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
