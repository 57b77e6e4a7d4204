//! A base model that is opened only if it is needed.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::TrainerError;
use crate::base_model::BaseModel;

/// The description of a base model, opened when it is first asked for and then shared: by its name nobody
/// can tell whether an adapter needs one.
pub struct LazyBase<'a> {
    name: Option<&'a str>,
    opened: OnceLock<BaseModel>,
    opening: Mutex<()>,
}

impl<'a> LazyBase<'a> {
    /// - name: as in [`BaseModel::open_config`]; without one there is no base model
    pub fn new(name: Option<&'a str>) -> Self {
        Self {
            name,
            opened: OnceLock::new(),
            opening: Mutex::new(()),
        }
    }

    /// The base model, if there is one. Others who ask at the same time wait, so that it is fetched once.
    ///
    /// # Errors
    /// As [`BaseModel::open_config`].
    pub fn get(&self) -> Result<Option<&BaseModel>, TrainerError> {
        let Some(name) = self.name else {
            return Ok(None);
        };
        let _alone = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if self.opened.get().is_none() {
            let opened = BaseModel::open_config(name)?;
            return Ok(Some(self.opened.get_or_init(|| opened)));
        }
        Ok(self.opened.get())
    }
}
