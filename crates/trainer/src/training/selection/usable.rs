//! Which adapters can be recycled for a training at all.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::{AdapterError, AdapterFile, LayerKind, check_low_rank};
use rayon::prelude::*;

use super::super::NetworkTraining;
use crate::methods::same_directory;

/// An adapter that fits the base model of a training.
#[derive(Clone, Debug)]
pub struct UsableAdapter<'a> {
    pub file: &'a AdapterFile,
    /// The paths of its modules in the base model, and what the adapter calls them.
    pub(super) layers: BTreeMap<String, String>,
}

/// Why an adapter cannot be recycled for a training.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("it is for the base model `{found}`, the training is for `{expected}`")]
    OtherBase { expected: String, found: String },
    #[error("the base model has no layer `{module}`; it is for another one")]
    NoLayer { module: String },
    #[error(
        "`{module}` is {} × {} there and {} × {} in the base model", found[0], found[1], expected[0], expected[1]
    )]
    Shape {
        module: String,
        expected: [usize; 2],
        found: [usize; 2],
    },
    #[error("it adapts `{module}`, which is {kind}; only linear layers are recycled")]
    Kind { module: String, kind: LayerKind },
    #[error("it adapts `{module}`, a layer of the head, which a training trains whole")]
    Head { module: String },
    #[error("it changes nothing: every update is 0")]
    NoEffect,
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Values(#[from] eigenmix_adapter::AdapterSetError),
}

impl NetworkTraining {
    /// Examines whether an adapter can be recycled for this training; its values are read and checked.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub fn usable<'a>(&self, file: &'a AdapterFile) -> Result<UsableAdapter<'a>, Unusable> {
        file.require_one_model()?;
        file.require_clean()?;
        let own_base = &self.config.base.model;
        if let Some(found) = file.config().base_model()
            && found != own_base
            && !self.config.adapter.allow_base_mismatch
            && !same_directory(found, own_base)
            // A directory may hold the model that the adapter names by its Hub id; shapes decide.
            && !Path::new(own_base).exists()
        {
            return Err(Unusable::OtherBase {
                expected: own_base.clone(),
                found: found.to_owned(),
            });
        }
        let mut layers = BTreeMap::new();
        for path in file.module_paths() {
            let module = path.to_owned();
            let kind = file.layer(path)?;
            if *kind != LayerKind::Linear {
                return Err(Unusable::Kind {
                    module,
                    kind: kind.clone(),
                });
            }
            let Some(layer) = self.description.layer(path) else {
                return Err(Unusable::NoLayer { module });
            };
            if layer.head {
                return Err(Unusable::Head { module });
            }
            let (_, d_in, d_out) = file.shape(path)?;
            let (expected, found) = ([layer.d_out, layer.d_in], [d_out, d_in]);
            if expected != found {
                return Err(Unusable::Shape {
                    module,
                    expected,
                    found,
                });
            }
            layers.insert(layer.path.clone(), module);
        }
        let is_zero = layers.par_iter().map(|(_, path)| {
            let module = file.module(path)?;
            check_low_rank(&module, path, file.location())?;
            Ok(module.has_no_effect())
        });
        let is_zero: Vec<bool> = is_zero.collect::<Result<_, Unusable>>()?;
        match is_zero.contains(&false) {
            true => Ok(UsableAdapter { file, layers }),
            false => Err(Unusable::NoEffect),
        }
    }
}
