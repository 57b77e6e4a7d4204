//! Encoded images and captions, on disk by what they depend on and in memory as far as they fit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use eigenmix_moslora::TrainedValues;
use eigenmix_tensors::{FileError, TensorFile};
use sha2::{Digest, Sha256};

use crate::TrainerError;
use crate::checkpoint::{read_values, write_values};

/// How many bytes are kept in memory.
const MOST: usize = 1 << 30;

/// A directory of encoded things, each in a file that is named by a digest of all that it depends on.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    values: BTreeMap<String, Arc<TrainedValues>>,
    bytes: usize,
}

impl Store {
    /// - directory: made when something is put into it
    pub fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            kept: Mutex::default(),
        }
    }

    /// A name for what is encoded.
    ///
    /// - kind: what it is, in a word
    /// - depends_on: all that it depends on
    pub fn key(kind: &str, depends_on: &str) -> String {
        let digest = Sha256::digest(depends_on.as_bytes());
        let digits = digest.iter().map(|byte| format!("{byte:02x}"));
        format!("{kind}-{}", digits.collect::<String>())
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether it is there, and not cut off: what is damaged is encoded again.
    pub fn has(&self, key: &str) -> bool {
        self.kept().values.contains_key(key) || TensorFile::open(&self.path(key)).is_ok()
    }

    /// # Errors
    /// If the file is not there or damaged.
    pub fn get(&self, key: &str) -> Result<Arc<TrainedValues>, TrainerError> {
        if let Some(values) = self.kept().values.get(key) {
            return Ok(Arc::clone(values));
        }
        let values = Arc::new(read_values(&self.path(key))?);
        self.keep(key, &values);
        Ok(values)
    }

    /// # Errors
    /// If the directory cannot be made or the file cannot be written.
    pub fn put(&self, key: &str, values: TrainedValues) -> Result<(), TrainerError> {
        let directory = &self.directory;
        std::fs::create_dir_all(directory).map_err(FileError::io("create", directory))?;
        write_values(&self.path(key), &values)?;
        self.keep(key, &Arc::new(values));
        Ok(())
    }

    fn keep(&self, key: &str, values: &Arc<TrainedValues>) {
        let count: usize = values.values().map(|tensor| tensor.values.len()).sum();
        let bytes = count * size_of::<f32>();
        let mut kept = self.kept();
        if kept.bytes + bytes <= MOST && !kept.values.contains_key(key) {
            kept.bytes += bytes;
            kept.values.insert(key.to_owned(), Arc::clone(values));
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.join(format!("{key}.safetensors"))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use eigenmix_tensors::HostTensor;

    use super::*;

    #[test]
    fn what_was_put_is_found_again_by_another_training() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cache");
        let values =
            TrainedValues::from([("mean".to_owned(), HostTensor::new(vec![2], vec![1.0, 2.0]))]);
        let store = Store::at(&path);
        assert!(!store.has("a"));
        store.put("a", values.clone()).expect("a file");
        let other = Store::at(&path);
        assert!(other.has("a") && !other.has("b"));
        assert_eq!(*other.get("a").expect("values"), values);
        assert!(other.get("b").is_err());
        let file = path.join("a.safetensors");
        let bytes = std::fs::read(&file).expect("a file");
        std::fs::write(&file, &bytes[..bytes.len() - 1]).expect("a file");
        assert!(!Store::at(&path).has("a"), "cut off");
    }
}
