//! The parts of an adapter besides its factors that a merge needs.

use eigenmix_adapter::{Adapter, AdapterError, AdapterFile, AdapterSource, LoadedAdapter};

/// An adapter that can be merged.
pub trait MergeSource: AdapterSource {
    /// The same adapter without its modules: heads, biases of the base model, labels and prompts.
    ///
    /// # Errors
    /// If they can't be read.
    fn without_modules(&self) -> Result<Adapter, AdapterError>;
}

impl MergeSource for AdapterFile {
    fn without_modules(&self) -> Result<Adapter, AdapterError> {
        Ok(Adapter {
            heads: self.heads()?,
            biases: self.biases()?,
            labels: self.labels().cloned(),
            prompts: self.prompts().cloned(),
            ..Adapter::new(self.config().clone(), Default::default())
        })
    }
}

impl MergeSource for LoadedAdapter {
    fn without_modules(&self) -> Result<Adapter, AdapterError> {
        let Adapter {
            config,
            heads,
            biases,
            labels,
            prompts,
            ..
        } = &self.adapter;
        Ok(Adapter {
            heads: heads.clone(),
            biases: biases.clone(),
            labels: labels.clone(),
            prompts: prompts.clone(),
            ..Adapter::new(config.clone(), Default::default())
        })
    }
}

impl<T: MergeSource + ?Sized> MergeSource for &T {
    fn without_modules(&self) -> Result<Adapter, AdapterError> {
        (**self).without_modules()
    }
}
