//! An adapter by its name: a directory, a run's directory, or a Hub id.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use eigenmix_adapter::{AdapterFile, Dialect};
use eigenmix_gguf::is_gguf_name;
use eigenmix_store::StoredName;
use eigenmix_trainer::{
    AdapterPlace, BaseModel, LazyBase, Run, TrainerError, locate_adapter, with_rows_in_order,
};
use rayon::prelude::*;

use crate::BadInput;
use crate::ExperimentError;
use crate::error::message;
use crate::known_input::KnownInput;
use crate::listener::Listener;
use crate::option_names::OptionNames;

/// An opened adapter and its place.
#[derive(Debug)]
pub struct OpenedAdapter {
    pub file: AdapterFile,
    /// Its directory (or its .safetensors or .gguf file), in the Hub's cache if it came from there.
    pub path: PathBuf,
    /// What must not be overwritten while it is read: its path, or the store that it is in.
    pub place: PathBuf,
}

impl OpenedAdapter {
    /// Opens the adapter that `argument` stands for, downloading it if necessary.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub fn open(argument: &str) -> Result<Self, ExperimentError> {
        Self::open_for(argument, || Ok(None))
    }

    /// The same for a base model, which a GGUF file of an adapter may need: only then it is asked for;
    /// without one, the model that the file names is looked for.
    ///
    /// # Errors
    /// As [`OpenedAdapter::open`], and if the base model cannot be opened or a GGUF file does not go with it.
    pub fn open_for<'b>(
        argument: &str,
        base: impl FnOnce() -> Result<Option<&'b BaseModel>, TrainerError>,
    ) -> Result<Self, ExperimentError> {
        let Self { file, path, place } = Self::as_it_lies(argument)?;
        let file = with_rows_in_order(file, &path, base)?;
        Ok(Self { file, path, place })
    }

    /// The same for what the order of rows does not change, such as sizes and norms: no base model is
    /// looked for.
    ///
    /// # Errors
    /// As [`OpenedAdapter::open`].
    pub fn open_in_any_order(argument: &str) -> Result<Self, ExperimentError> {
        let opened = Self::as_it_lies(argument)?;
        let file = opened.file.in_any_order();
        Ok(Self { file, ..opened })
    }

    fn as_it_lies(argument: &str) -> Result<Self, ExperimentError> {
        let path = locate_adapter(argument)?;
        let file = AdapterFile::open(&path)?.with_location(argument);
        let place = match AdapterPlace::parse(argument) {
            Ok(AdapterPlace::Stored(stored)) => stored.directory,
            _ => path.clone(),
        };
        Ok(Self { file, path, place })
    }

    /// Whether it comes out of a store.
    pub fn is_stored(&self) -> bool {
        self.place != self.path
    }

    /// Opens all of `arguments`, in their order, and refuses those of which a part would be left
    /// out; with `allow_partial` this is only a warning.
    ///
    /// - base: the base model of those in GGUF, if it is not the one that they name
    /// - names: how messages name that option
    ///
    /// # Errors
    /// As [`OpenedAdapter::open_for`], for the first argument that fails, or if a base model is given and no
    /// adapter is in GGUF.
    pub fn open_all(
        arguments: &[String],
        base: Option<&str>,
        allow_partial: bool,
        names: OptionNames,
        listener: &dyn Listener,
    ) -> Result<Vec<Self>, ExperimentError> {
        let model = LazyBase::new(base);
        let opened = Self::open_all_for(arguments, &model, allow_partial, names, listener)?;
        let is_gguf = |adapter: &Self| adapter.file.style().dialect() == Dialect::Gguf;
        if base.is_some() && !opened.iter().any(is_gguf) {
            let problem = "--base is for adapters in GGUF, and none is; leave it out";
            return Err(BadInput(problem.to_owned()).into());
        }
        // A wrong name is told of even if nothing in the files depended on it.
        model.get()?;
        Ok(opened)
    }

    /// The same for a base model that is there whatever the adapters are, such as that of a task.
    ///
    /// # Errors
    /// As [`OpenedAdapter::open_for`], for the first argument that fails, or for one that is not whole.
    pub fn open_all_for(
        arguments: &[String],
        base: &LazyBase<'_>,
        allow_partial: bool,
        names: OptionNames,
        listener: &dyn Listener,
    ) -> Result<Vec<Self>, ExperimentError> {
        let opened: Vec<Result<Self, ExperimentError>> = arguments
            .par_iter()
            .map(|argument| Self::open_for(argument, || base.get()))
            .collect();
        let opened: Vec<Self> = opened.into_iter().collect::<Result<_, ExperimentError>>()?;
        for adapter in &opened {
            adapter.require_whole(allow_partial, names, listener)?;
        }
        Ok(opened)
    }

    /// Refuses an adapter of which a part would be left out; with `allow_partial` this is only a
    /// warning.
    ///
    /// # Errors
    /// If there is such a part.
    pub fn require_whole(
        &self,
        allow_partial: bool,
        names: OptionNames,
        listener: &dyn Listener,
    ) -> Result<(), ExperimentError> {
        match self.file.require_clean() {
            Ok(()) => Ok(()),
            Err(error) if allow_partial => {
                listener.warn(&message(&error));
                Ok(())
            }
            Err(error) => {
                let (problem, option) = (message(&error), names.of("allow_partial"));
                Err(BadInput(format!("{problem}; {option} continues without them")).into())
            }
        }
    }

    /// The directory whose files belong to it, also where it was named by its file of tensors; none of
    /// a single file that needs none beside it.
    pub fn directory(&self) -> Option<&Path> {
        if self.path.is_dir() {
            return Some(&self.path);
        }
        let directory = self.path.parent().filter(|_| {
            let dialect = self.file.style().dialect();
            !dialect.is_one_file()
        })?;
        Some(match directory == Path::new("") {
            true => Path::new("."),
            false => directory,
        })
    }

    /// What is known of the input that it was trained on; of a single file that needs none beside it
    /// nothing.
    ///
    /// # Errors
    /// If a file beside it cannot be read, or says what is not known here.
    pub fn input(&self) -> Result<KnownInput, ExperimentError> {
        match self.directory() {
            Some(directory) => KnownInput::in_directory(directory),
            None => Ok(KnownInput::default()),
        }
    }

    /// The bytes of its tensors on disk.
    pub fn bytes(&self) -> u64 {
        let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        if self.path.is_file() {
            return size(&self.path);
        }
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "safetensors")
            })
            .map(|path| size(&path))
            .sum()
    }

    /// As `adapter_name`, for its location.
    pub fn name(&self, components: usize) -> String {
        adapter_name(self.file.location(), components)
    }
}

/// The name of the adapter at `location`: its last `components` parts, without the revision of a
/// Hub id; of a file on the Hub, the name of the file. The adapter of a run, `RUN/adapter`, has the name of the run.
pub fn adapter_name(location: &str, components: usize) -> String {
    let is_path = Path::new(location).exists();
    let location = match location.split_once('@') {
        Some((id, _)) if !is_path => id,
        _ => location,
    };
    let stem = match is_gguf_name(location) {
        true => location.rsplit_once('.').map(|(stem, _)| stem),
        false => location.strip_suffix(".safetensors"),
    };
    let location = stem.unwrap_or(location);
    // An adapter of a store lies below it.
    let separators: &[char] = match StoredName::split(location) {
        Some(stored) if stored.is_in_store() => &['/', '#'],
        _ if !is_path => &['/', ':'],
        _ => &['/'],
    };
    let mut parts: Vec<&str> = location
        .split(separators)
        .filter(|part| !["", ".", ".."].contains(part))
        .collect();
    // Two parts may be a Hub id; a path with more need not exist yet.
    if parts.last() == Some(&Run::ADAPTER) && (parts.len() > 2 || parts.len() == 2 && is_path) {
        parts.pop();
    }
    if parts.is_empty() {
        // The current directory.
        return Run::ADAPTER.to_owned();
    }
    parts[parts.len().saturating_sub(components)..].join("-")
}

/// Short names for tables and for directories: the last part of each adapter's location, or as many
/// parts as distinguish it from the others.
///
/// # Errors
/// If two have the same location.
pub fn distinct_names(adapters: &[OpenedAdapter]) -> Result<Vec<String>, BadInput> {
    let parts = |adapter: &OpenedAdapter| adapter.file.location().split('/').count();
    let longest = adapters.iter().map(parts).max().unwrap_or(0);
    for components in 1..=longest {
        let names: Vec<String> = adapters
            .iter()
            .map(|adapter| adapter.name(components))
            .collect();
        let distinct: BTreeSet<&String> = names.iter().collect();
        if distinct.len() == names.len() {
            return Ok(names);
        }
    }
    let mut seen = BTreeSet::new();
    let twice = adapters
        .iter()
        .find(|adapter| !seen.insert(adapter.name(longest)))
        .map_or("", |adapter| adapter.file.location());
    Err(BadInput(format!("adapter `{twice}` is given twice")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_is_named_after_its_directory_its_run_or_its_repository() {
        for (location, expected) in [
            ("adapters/gym", "gym"),
            ("runs/gym/adapter", "gym"),
            ("out/train/gym/adapter", "gym"),
            ("org/adapter", "adapter"),
            ("org/name@v2", "name"),
            ("styles/style.safetensors", "style"),
            ("models/lora.gguf", "lora"),
            ("models/LORA.GGUF", "LORA"),
            ("org/name:style.safetensors@v2", "style"),
            (".", "adapter"),
        ] {
            assert_eq!(adapter_name(location, 1), expected, "{location}");
        }
        assert_eq!(adapter_name("runs/a/gym/adapter", 2), "a-gym");
    }
}
