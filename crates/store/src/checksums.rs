//! The checksums of the files of a store.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use eigenmix_tensors::FileError;
use sha2::{Digest, Sha256};

use crate::store_file::DESCRIPTION;

/// The SHA-256 of every file in a directory and below, by its path there with `/` between names; the
/// description, which carries them, is left out.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn checksums(directory: &Path) -> Result<BTreeMap<String, String>, FileError> {
    let mut found = BTreeMap::new();
    collect(directory, "", &mut found)?;
    found.remove(DESCRIPTION);
    Ok(found)
}

fn collect(
    directory: &Path,
    below: &str,
    found: &mut BTreeMap<String, String>,
) -> Result<(), FileError> {
    let failed = || FileError::io("read", directory);
    for entry in fs::read_dir(directory).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{below}{name}");
        if path.is_dir() {
            collect(&path, &format!("{name}/"), found)?;
            continue;
        }
        let mut digest = Sha256::new();
        let copied = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut digest));
        copied.map_err(FileError::io("read", &path))?;
        found.insert(name, format!("{:x}", digest.finalize()));
    }
    Ok(())
}
