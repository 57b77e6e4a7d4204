//! The lock of an output: a file that one process at a time holds locked.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::FileError;

/// A lock file, held by this process until it is dropped.
///
/// The system gives the lock back when the process ends, however it ends, so a file that a killed
/// process left behind does not matter.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    // Closing it gives the lock back.
    _file: File,
}

impl FileLock {
    /// Locks `path`, which is created if it does not exist.
    ///
    /// # Errors
    /// [`FileError::InUse`] if another process holds it, and I/O errors.
    pub fn acquire(path: &Path) -> Result<Self, FileError> {
        Self::lock(path, |file| match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => supported(Err(error)),
            Ok(()) => Ok(true),
        })
    }

    /// As [`Self::acquire`], but waits for another process to finish.
    ///
    /// # Errors
    /// I/O errors.
    pub fn wait(path: &Path) -> Result<Self, FileError> {
        Self::lock(path, |file| supported(file.lock()))
    }

    fn lock(path: &Path, lock: impl Fn(&File) -> io::Result<bool>) -> Result<Self, FileError> {
        let error = |action| FileError::io(action, path);
        loop {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(path)
                .map_err(error("open"))?;
            if !lock(&file).map_err(error("lock"))? {
                let mut holder = String::new();
                // Only for messages; a holder that has not written its name yet stays unnamed.
                let _ = file.read_to_string(&mut holder);
                return Err(FileError::InUse {
                    path: path.to_owned(),
                    holder: holder.trim().to_owned(),
                });
            }
            // The holder before may have removed the file between our opening and our locking it.
            if is_at(&file, path) {
                file.set_len(0).map_err(error("write"))?;
                writeln!(file, "process {}", std::process::id()).map_err(error("write"))?;
                return Ok(Self {
                    path: path.to_owned(),
                    _file: file,
                });
            }
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Some network file systems have no locks; there, no process is kept out.
fn supported(locked: io::Result<()>) -> io::Result<bool> {
    match locked {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(error),
        _ => Ok(true),
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(there)) => place(open) == place(there),
        _ => false,
    }
}

/// Elsewhere an open file cannot be removed.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_second_holder_is_refused_and_told_who_the_first_is() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let held = FileLock::acquire(&path).unwrap();
        let error = FileLock::acquire(&path).unwrap_err();
        let expected = format!("process {}", std::process::id());
        assert!(matches!(&error, FileError::InUse { holder, .. } if *holder == expected));
        drop(held);
        assert!(!path.exists());
        FileLock::acquire(&path).unwrap();
    }

    #[test]
    fn a_file_that_a_killed_process_left_is_taken_over() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        fs::write(&path, "process 1 of long ago, with a longer line than ours").unwrap();
        let _held = FileLock::acquire(&path).unwrap();
        let expected = format!("process {}\n", std::process::id());
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    fn those_who_wait_hold_it_one_after_the_other() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _held = FileLock::wait(&path).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
