//! From a store to plain adapters.

use std::path::{Path, PathBuf};

use eigenmix_store::{Store, StoredName};
use eigenmix_tensors::write_directory;

use super::{UnpackSummary, UnpackedAdapter};
use crate::ExperimentError;
use crate::destination::Destination;

/// The request to unpack.
#[derive(Clone, Debug)]
pub struct UnpackRequest {
    /// `STORE`, or one adapter of it: `STORE#NAME`.
    pub store: String,
    /// Where to write the adapter, or a directory with each by its name.
    pub out: PathBuf,
    /// Overwrite the directory if it exists.
    pub force: bool,
}

/// Writes the adapters of a store as PEFT's directories, and returns the result to print.
///
/// # Errors
/// If the store is damaged or does not have the adapter, or the output cannot be written.
pub fn unpack_adapters(request: &UnpackRequest) -> Result<UnpackSummary, ExperimentError> {
    let destination = Destination::new(&request.out, request.force)?;
    let stored = StoredName::split(&request.store);
    let (path, name) = match &stored {
        Some(stored) => (stored.directory.clone(), Some(stored.name)),
        None => (PathBuf::from(&request.store), None),
    };
    destination.keep_apart_from(&path)?;
    destination.keep_outside_of(&path)?;
    let store = Store::load(&path)?;
    let mut adapters = Vec::new();
    match name {
        Some(name) => {
            let options = (destination.force(), request.store.as_str());
            adapters.push(write(&store, name, destination.path(), options)?);
        }
        None => write_directory(destination.path(), destination.force(), |staging| {
            for name in store.adapters.keys() {
                let location = format!("{}#{name}", request.store);
                let place = staging.join(name);
                adapters.push(write(&store, name, &place, (false, &location))?);
            }
            Ok::<_, ExperimentError>(())
        })?,
    }
    Ok(UnpackSummary {
        store: path.display().to_string(),
        out: request.out.display().to_string(),
        adapters,
    })
}

fn write(
    store: &Store,
    name: &str,
    place: &Path,
    (force, location): (bool, &str),
) -> Result<UnpackedAdapter, ExperimentError> {
    store.write(name, place, force, location)?;
    let stored = store.stored(name)?;
    Ok(UnpackedAdapter {
        name: name.to_owned(),
        source: stored.source.clone(),
        error: stored.error.clone(),
    })
}
