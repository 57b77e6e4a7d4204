//! From a store to plain adapters.

use std::path::{Path, PathBuf};

use eigenmix_adapter::{Provenance, SaveOptions};
use eigenmix_store::Store;
use eigenmix_tensors::write_directory;
use serde_json::json;

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
    let (path, name) = split_location(&request.store);
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

/// The directory of a store and the name after `#`; a path that exists is one, whatever its name.
fn split_location(argument: &str) -> (PathBuf, Option<&str>) {
    match argument.rsplit_once('#') {
        Some((path, name)) if !Path::new(argument).exists() => (path.into(), Some(name)),
        _ => (argument.into(), None),
    }
}

fn write(
    store: &Store,
    name: &str,
    place: &Path,
    (force, location): (bool, &str),
) -> Result<UnpackedAdapter, ExperimentError> {
    let adapter = store.adapter(name)?;
    let stored = store.stored(name)?;
    let made = stored.made.as_ref();
    let of = |key: &str| made.and_then(|made| made.get(key)).cloned();
    let provenance = Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        method: "unpack".to_owned(),
        sources: vec![stored.source.clone()],
        options: json!({
            "store": location,
            "packed": store.options,
            "relative_error": stored.error.relative_error,
            "made": {"method": of("method"), "sources": of("sources"), "options": of("options")},
        }),
        input: of("input").filter(|input| !input.is_null()),
    };
    let save = SaveOptions {
        force,
        provenance: Some(provenance),
        companions: stored.companions.clone(),
    };
    adapter.save(place, &save)?;
    Ok(UnpackedAdapter {
        name: name.to_owned(),
        source: stored.source.clone(),
        error: stored.error.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_follows_the_last_hash_unless_the_path_exists() {
        assert_eq!(
            split_location("some/store#gym"),
            ("some/store".into(), Some("gym"))
        );
        assert_eq!(split_location("some/store"), ("some/store".into(), None));
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("odd#name");
        std::fs::create_dir(&path).expect("a directory");
        let argument = path.display().to_string();
        assert_eq!(split_location(&argument), (path, None));
    }
}
