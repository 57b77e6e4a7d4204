//! `STORE#NAME`: an adapter of a store by its name, wherever an adapter is asked for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use eigenmix_adapter::{Provenance, SaveOptions};
use eigenmix_tensors::{FileError, FileLock};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::checksums::checksums;
use crate::store_file::write_json;
use crate::store_reader::checked;
use crate::{Store, StoreError};

/// An adapter of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredName<'a> {
    /// The directory of the store.
    pub directory: PathBuf,
    pub name: &'a str,
}

impl<'a> StoredName<'a> {
    /// The adapter that an argument names: what comes before the last `#` is the directory, what comes
    /// after it the name. `None` of a path that exists, whatever its name, and of what has no `#`.
    pub fn split(argument: &'a str) -> Option<Self> {
        let (directory, name) = argument.rsplit_once('#')?;
        let is_path = Path::new(argument).exists();
        (!is_path).then(|| Self {
            directory: directory.into(),
            name,
        })
    }

    /// Whether the directory is a store.
    pub fn is_in_store(&self) -> bool {
        self.directory.join(Store::FILE_NAME).is_file()
    }

    /// The adapter as a directory of PEFT below `cache`, unpacked if it is not there yet, or not as it was
    /// written. The place depends on the content of the store, so that a store that was packed again is
    /// unpacked again.
    ///
    /// # Errors
    /// As [`Store::load`] and [`Store::write`], and if the store does not have the adapter.
    pub fn unpacked(&self, cache: &Path) -> Result<PathBuf, StoreError> {
        // The files of the store are checked, whatever is in the cache.
        let (description, json) = checked(&self.directory)?;
        if !description.adapters.contains_key(self.name) {
            let known = description.adapters.keys();
            return Err(StoreError::no_such_adapter(self.name, known));
        }
        let below = cache.join(format!("{:x}", Sha256::digest(&json)));
        let beside = |extension: &str| below.join(format!("{}.{extension}", self.name));
        let (place, sums) = (below.join(self.name), beside("json"));
        // Others that want the same adapter wait till it is there.
        fs::create_dir_all(&below).map_err(FileError::io("create", &below))?;
        let _lock = FileLock::wait(&beside("lock"))?;
        if !is_as_written(&place, &sums) {
            let location = format!("{}#{}", self.directory.display(), self.name);
            Store::load(&self.directory)?.write(self.name, &place, true, &location)?;
            write_json(&sums, serde_json::to_vec_pretty(&checksums(&place)?))?;
        }
        Ok(place)
    }
}

/// Whether a directory has the files that its checksums are of, and no others.
fn is_as_written(place: &Path, sums: &Path) -> bool {
    let Ok(written) = fs::read(sums) else {
        return false;
    };
    let written: Option<BTreeMap<String, String>> = serde_json::from_slice(&written).ok();
    match (written, checksums(place)) {
        (Some(written), Ok(found)) => written == found,
        _ => false,
    }
}

impl Store {
    /// Writes the adapter `name` as a directory of PEFT.
    ///
    /// - location: how its `eigenmix.json` names the store
    ///
    /// # Errors
    /// If the store does not have it, or it cannot be written.
    pub fn write(
        &self,
        name: &str,
        place: &Path,
        force: bool,
        location: &str,
    ) -> Result<(), StoreError> {
        let adapter = self.adapter(name)?;
        let stored = self.stored(name)?;
        let made = stored.made.as_ref();
        let of = |key: &str| made.and_then(|made| made.get(key)).cloned();
        let provenance = Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            method: "unpack".to_owned(),
            sources: vec![stored.source.clone()],
            options: json!({
                "store": location,
                "packed": self.options,
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
        Ok(adapter.save(place, &save)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_follows_the_last_hash_unless_the_path_exists() {
        let found = StoredName::split("some/store#gym").expect("a name");
        assert_eq!((found.directory, found.name), ("some/store".into(), "gym"));
        assert_eq!(StoredName::split("some/store"), None);
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("odd#name");
        std::fs::create_dir(&path).expect("a directory");
        assert_eq!(StoredName::split(&path.display().to_string()), None);
    }
}
