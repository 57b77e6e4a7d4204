//! Finds base models, data and adapters below a directory.

use std::fs;
use std::path::{Path, PathBuf};

use eigenmix_adapter::PeftConfig;
use eigenmix_data::{DataConfig, Split, column_names};

/// How many directories deep the search goes, and how many directories it reads.
const DEPTH: usize = 3;
const MOST: usize = 2_000;

/// Directories that are never searched: they hold results, not inputs.
const LEFT_OUT: [&str; 4] = ["target", "runs", "node_modules", "__pycache__"];

/// What was found, as paths relative to the searched directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    pub bases: Vec<String>,
    pub data: Vec<String>,
    pub adapters: Vec<String>,
}

impl Surroundings {
    /// Searches below `root`. What cannot be read is skipped.
    pub fn of(root: &Path) -> Self {
        let mut found = Self::default();
        let mut pending = vec![(PathBuf::new(), 0)];
        for _ in 0..MOST {
            let Some((relative, depth)) = pending.pop() else {
                break;
            };
            let path = root.join(&relative);
            let name = match relative.as_os_str().is_empty() {
                true => ".".to_owned(),
                false => relative.to_string_lossy().into_owned(),
            };
            if path.join(PeftConfig::FILE_NAME).is_file() {
                found.adapters.push(name);
                continue;
            }
            if is_base(&path) {
                found.bases.push(name);
                continue;
            }
            // Whose card names files elsewhere is not meant here.
            if column_names(&path, Split::Train, &DataConfig::new("")).is_ok() {
                found.data.push(name);
                continue;
            }
            if depth < DEPTH {
                let inner = directories(&path).into_iter();
                pending.extend(inner.map(|inner| (relative.join(inner), depth + 1)));
            }
        }
        for list in [&mut found.bases, &mut found.data, &mut found.adapters] {
            list.sort();
        }
        found
    }
}

fn is_base(path: &Path) -> bool {
    let weights = ["model.safetensors", "model.safetensors.index.json"];
    path.join("config.json").is_file() && weights.iter().any(|name| path.join(name).is_file())
}

/// The names of the subdirectories that are worth searching.
fn directories(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.') && !LEFT_OUT.contains(&name.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_found_by_its_files_and_what_was_made_here_is_left_out() {
        let root = tempfile::tempdir().expect("a directory");
        for name in [
            "models/base/config.json",
            "models/base/model.safetensors",
            "adapters/one/adapter_config.json",
            "adapters/two/adapter_config.json",
            "texts/train.csv",
            "texts/test.csv",
            "runs/old/adapter/adapter_config.json",
            ".hidden/train.csv",
            "a/b/c/d/train.csv",
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, "text,label\n").expect("a file");
        }
        let expected = Surroundings {
            bases: vec!["models/base".to_owned()],
            data: vec!["texts".to_owned()],
            adapters: vec!["adapters/one".to_owned(), "adapters/two".to_owned()],
        };
        assert_eq!(Surroundings::of(root.path()), expected);
    }
}
