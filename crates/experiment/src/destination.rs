//! An output directory, checked before the work and overwritten only if Eigenmix wrote it.

use std::fs;
use std::path::{Path, PathBuf};

use eigenmix_adapter::{AdapterFile, Dialect, PeftConfig, Provenance};
use eigenmix_models::is_gguf;
use eigenmix_store::Store;
use eigenmix_tensors::{FileError, TensorFile};
use eigenmix_trainer::{AdapterPlace, Init, Run, TrainConfig};

use crate::BadInput;
use crate::ExperimentError;
use crate::diffusion::{IMAGES_FILE, is_list_of_images};
use crate::listener::Listener;
use crate::opened_adapter::OpenedAdapter;
use crate::option_names::OptionNames;

/// One of these is in every directory that Eigenmix or PEFT writes.
const MARKS: [&str; 7] = [
    PeftConfig::FILE_NAME,
    Provenance::FILE_NAME,
    "subspace.json",
    Store::FILE_NAME,
    Run::CONFIG,
    "report.json",
    IMAGES_FILE,
];

/// A directory that may be written: it does not exist yet, or `--force` allows overwriting it.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    force: bool,
}

impl Destination {
    /// Checks `path` before any work is spent on what will be written there.
    ///
    /// # Errors
    /// If it exists and `force` is not set; or with `force`, if it is or holds anything but an
    /// adapter, a subspace, a store, a run or a directory of such: a typo must not delete a home directory.
    pub fn new(path: &Path, force: bool) -> Result<Self, ExperimentError> {
        if path.symlink_metadata().is_ok() {
            if !force {
                return Err(FileError::AlreadyExists(path.to_owned()).into());
            }
            if !is_replaceable(path) {
                let problem = format!(
                    "`{}` is not a directory that eigenmix wrote (it has none of {}), so --force does not overwrite it; choose another directory, or remove it yourself",
                    path.display(),
                    MARKS.join(", ")
                );
                return Err(BadInput(problem).into());
            }
        }
        Ok(Self {
            path: path.to_owned(),
            force,
        })
    }

    /// Refuses to overwrite a directory that is an input or contains one.
    ///
    /// # Errors
    /// If `input` is this directory or in it.
    pub fn keep_apart_from(&self, input: &Path) -> Result<(), ExperimentError> {
        let (Ok(output), Ok(input)) = (self.path.canonicalize(), input.canonicalize()) else {
            return Ok(());
        };
        if !input.starts_with(&output) {
            return Ok(());
        }
        let problem = format!(
            "`{}` would be overwritten, but it contains the input `{}`; choose another directory",
            output.display(),
            input.display()
        );
        Err(BadInput(problem).into())
    }

    /// Refuses to write into a directory that is read.
    ///
    /// # Errors
    /// If this directory is inside `input`.
    pub fn keep_outside_of(&self, input: &Path) -> Result<(), ExperimentError> {
        let existing = self
            .path
            .ancestors()
            .find_map(|path| path.canonicalize().ok());
        let (Some(output), Ok(input)) = (existing, input.canonicalize()) else {
            return Ok(());
        };
        if !output.starts_with(&input) {
            return Ok(());
        }
        let problem = format!(
            "`{}` is inside the input `{}`; choose another directory",
            self.path.display(),
            input.display()
        );
        Err(BadInput(problem).into())
    }

    /// Refuses to overwrite what a training reads: its file, data, base model, subspace and adapters; and
    /// to write into a store.
    ///
    /// - file: the training file
    ///
    /// # Errors
    /// If one of them is this directory or in it, or this is in a store that is read.
    pub fn keep_apart_from_training(
        &self,
        file: &Path,
        config: &TrainConfig,
    ) -> Result<(), ExperimentError> {
        self.keep_apart_from(file)?;
        let adapter = &config.adapter;
        let paths = [&config.data.path, &config.base.model];
        for path in paths.into_iter().chain(&adapter.subspace) {
            self.keep_apart_from(Path::new(path))?;
        }
        let started_from = adapter.init.iter().filter_map(Init::adapter);
        let names = adapter.adapters.iter().map(String::as_str);
        for name in names.chain(started_from) {
            match AdapterPlace::parse(name) {
                Ok(AdapterPlace::Path(path)) => self.keep_apart_from(&path)?,
                Ok(AdapterPlace::Stored(stored)) => {
                    self.keep_apart_from_store(&stored.directory)?
                }
                // What is on the Hub cannot be overwritten; what is nothing is refused when it is read.
                Ok(AdapterPlace::Hub(_) | AdapterPlace::HubFile(_)) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Refuses to overwrite an adapter that is read, and to write into the store that it is in.
    ///
    /// # Errors
    /// If it is this directory or in it, or this is in its store.
    pub fn keep_apart_from_input(&self, adapter: &OpenedAdapter) -> Result<(), ExperimentError> {
        match adapter.is_stored() {
            true => self.keep_apart_from_store(&adapter.place),
            false => self.keep_apart_from(&adapter.place),
        }
    }

    /// A store is checked whole, so that nothing may be written into it either.
    fn keep_apart_from_store(&self, store: &Path) -> Result<(), ExperimentError> {
        self.keep_apart_from(store)?;
        self.keep_outside_of(store)
    }

    /// Opens the adapters that go into this directory, none of which it may contain.
    ///
    /// # Errors
    /// As [`OpenedAdapter::open_all`] and [`Destination::keep_apart_from`].
    pub fn open_inputs(
        &self,
        adapters: &[String],
        base: Option<&str>,
        allow_partial: bool,
        names: OptionNames,
        listener: &dyn Listener,
    ) -> Result<Vec<OpenedAdapter>, ExperimentError> {
        let opened = OpenedAdapter::open_all(adapters, base, allow_partial, names, listener)?;
        for adapter in &opened {
            self.keep_apart_from_input(adapter)?;
        }
        Ok(opened)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn force(&self) -> bool {
        self.force
    }
}

/// Whether a directory has a mark; others call their lists of images the same.
fn is_marked(directory: &Path) -> bool {
    let has = |mark: &str| {
        let path = directory.join(mark);
        path.is_file() && (mark != IMAGES_FILE || is_list_of_images(&path))
    };
    MARKS.into_iter().any(has)
}

fn is_replaceable(path: &Path) -> bool {
    if path.is_file() {
        return match is_gguf(path) {
            true => AdapterFile::open(path).is_ok(),
            false => TensorFile::open(path).is_ok_and(|file| Dialect::of(&file).is_one_file()),
        };
    }
    if is_marked(path) {
        return true;
    }
    let Ok(entries) = fs::read_dir(path) else {
        return false;
    };
    // Empty, or what `project` makes of several adapters.
    entries.flatten().all(|entry| {
        let inner = entry.path();
        inner.is_dir() && is_marked(&inner)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_other_software_is_not_replaced_even_with_force() {
        let root = tempfile::tempdir().expect("a directory");
        fs::write(root.path().join("thesis.tex"), "x").expect("a file");
        assert!(Destination::new(root.path(), true).is_err());
    }

    #[test]
    fn our_own_and_empty_directories_are_replaced_with_force_only() {
        let root = tempfile::tempdir().expect("a directory");
        assert!(Destination::new(root.path(), true).is_ok());
        let inner = root.path().join("banking");
        fs::create_dir(&inner).expect("a directory");
        fs::write(inner.join(PeftConfig::FILE_NAME), "{}").expect("a file");
        assert!(Destination::new(root.path(), true).is_ok());
        assert!(Destination::new(&inner, true).is_ok());
        assert!(Destination::new(&inner, false).is_err());
    }

    #[test]
    fn an_input_inside_the_destination_is_refused() {
        let root = tempfile::tempdir().expect("a directory");
        let inner = root.path().join("adapter");
        fs::create_dir(&inner).expect("a directory");
        fs::write(root.path().join("config.toml"), "").expect("a file");
        let destination = Destination::new(root.path(), true).expect("a run");
        assert!(destination.keep_apart_from(&inner).is_err());
        let beside = tempfile::tempdir().expect("a directory");
        assert!(destination.keep_apart_from(beside.path()).is_ok());
        let within = Destination::new(&root.path().join("new/out"), true).expect("a new one");
        assert!(within.keep_outside_of(root.path()).is_err());
        assert!(within.keep_outside_of(beside.path()).is_ok());
    }
}
