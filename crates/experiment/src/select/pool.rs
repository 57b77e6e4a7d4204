//! The adapters that were given, and which of them can be used.

use eigenmix_trainer::{LazyBase, NetworkTraining, UsableAdapter};
use rayon::prelude::*;

use super::UnusedAdapter;
use crate::error::message;
use crate::opened_adapter::{OpenedAdapter, distinct_names};
use crate::starter::adapters_in;
use crate::{BadInput, ExperimentError};

/// Adapters that were opened, and those that were not.
pub(super) struct FoundPool {
    /// With a short name each.
    opened: Vec<(String, OpenedAdapter)>,
    unused: Vec<UnusedAdapter>,
}

/// The same, after a look at the base model.
pub(super) struct SortedPool<'a> {
    /// The short names of the usable ones.
    pub names: Vec<String>,
    pub usable: Vec<UsableAdapter<'a>>,
    pub unused: Vec<UnusedAdapter>,
}

impl FoundPool {
    /// - arguments: adapters, and directories of adapters
    /// - base: the base model of the task
    ///
    /// # Errors
    /// If one is given twice, or a directory has none.
    pub fn open(arguments: &[String], base: &str) -> Result<Self, ExperimentError> {
        let mut locations = Vec::new();
        for argument in arguments {
            let found = adapters_in(argument);
            if found.is_empty() {
                let problem = format!("`{argument}` is no adapter, and none lies directly in it");
                return Err(BadInput(problem).into());
            }
            locations.extend(found);
        }
        let base = LazyBase::new(Some(base));
        let opened = locations
            .par_iter()
            .map(|location| OpenedAdapter::open_for(location, || base.get()));
        let opened: Vec<Result<OpenedAdapter, ExperimentError>> = opened.collect();
        let (mut good, mut unused) = (Vec::new(), Vec::new());
        for (location, opened) in locations.into_iter().zip(opened) {
            match opened {
                Ok(opened) => good.push(opened),
                Err(error) => unused.push(UnusedAdapter {
                    location,
                    reason: message(&error),
                }),
            }
        }
        let names = distinct_names(&good)?;
        Ok(Self {
            opened: names.into_iter().zip(good).collect(),
            unused,
        })
    }

    /// Those that fit the training, and the others with the reasons.
    pub fn sorted(&self, training: &NetworkTraining) -> SortedPool<'_> {
        let mut sorted = SortedPool {
            names: Vec::new(),
            usable: Vec::new(),
            unused: self.unused.clone(),
        };
        for (name, opened) in &self.opened {
            match training.usable(&opened.file) {
                Ok(adapter) => {
                    sorted.names.push(name.clone());
                    sorted.usable.push(adapter);
                }
                Err(reason) => sorted.unused.push(UnusedAdapter {
                    location: opened.file.location().to_owned(),
                    reason: message(&reason),
                }),
            }
        }
        sorted
    }
}
