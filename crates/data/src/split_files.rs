//! Which files of a dataset are a split: those that the configuration names, or the dataset's card,
//! or that have the split's name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use crate::config::DataConfig;
use crate::dataset_card::DatasetCard;
use crate::error::{DataError, quoted};
use crate::split::{Format, Split, expected_names, list_dir, pick_split};

/// The files that splits are looked for among.
pub(crate) enum FileTree<'a> {
    /// Those in a directory.
    Directory(&'a Path),
    /// Those of a repository on the Hub, where names are freer.
    Repository {
        /// Its id, for messages.
        id: &'a Path,
        names: &'a [String],
    },
}

/// The files of a split.
#[derive(Debug)]
pub(crate) struct SplitFiles {
    /// In their order.
    pub(crate) files: Vec<PathBuf>,
    /// The dataset's, which may have more to say of the rows.
    pub(crate) card: DatasetCard,
}

/// Finds the files of a split.
///
/// `dir` holds them as `train.csv` or in shards such as `train-00000-of-00002.parquet`, at its top, in
/// `data/`, or in the folder that `data.config` names; or `data.files` or the head of its README.md
/// name them.
///
/// # Errors
/// When there is none, when more than one could be it, or when a shard is missing.
pub(crate) fn find_split(
    dir: &Path,
    split: Split,
    config: &DataConfig,
) -> Result<SplitFiles, DataError> {
    // Most directories have no card, and few cards name files.
    let card = fs::read_to_string(dir.join(DatasetCard::FILE_NAME));
    let card = DatasetCard::parse(&card.unwrap_or_default());
    let names = FileTree::Directory(dir).split(split, config, &card)?;
    Ok(SplitFiles {
        files: names.iter().map(|name| dir.join(name)).collect(),
        card,
    })
}

impl FileTree<'_> {
    /// The names of a split's files, in their order.
    ///
    /// # Errors
    /// As [`find_split`].
    pub(crate) fn split(
        &self,
        split: Split,
        config: &DataConfig,
        card: &DatasetCard,
    ) -> Result<Vec<String>, DataError> {
        let top = self.folder("")?;
        if !config.files.is_empty() {
            return match config.files.patterns(split) {
                Some(patterns) => self.matching(patterns, split),
                None => Err(self.missing(split, &top)),
            };
        }
        let wanted = config.config.as_deref();
        let described = card.config(wanted).map_err(|names| self.several(&names))?;
        let mut folders = match wanted {
            Some(name) => vec![name.to_owned(), format!("data/{name}")],
            None => vec![String::new(), "data".to_owned()],
        };
        if let Some(described) = described {
            match described.patterns(split) {
                Some(patterns) if patterns.is_empty() => return Err(self.missing(split, &top)),
                Some(patterns) => return self.matching(&patterns, split),
                None => folders.insert(0, described.folder().to_owned()),
            }
        }
        for folder in &folders {
            let names = self.folder(folder)?;
            let found = pick_split(&names, split, &self.place().join(folder))?;
            if !found.is_empty() {
                let inside = |name| match folder.is_empty() {
                    true => name,
                    false => format!("{folder}/{name}"),
                };
                return Ok(found.into_iter().map(inside).collect());
            }
        }
        if let Self::Repository { names, .. } = self {
            let found = self.loosely_named(names, split, wanted)?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Err(self.missing(split, &top))
    }

    fn place(&self) -> &Path {
        match self {
            Self::Directory(path) => path,
            Self::Repository { id, .. } => id,
        }
    }

    /// The names in a folder; those of folders end in `/`. A folder that is not there has none, but
    /// the top must be.
    fn folder(&self, folder: &str) -> Result<Vec<String>, DataError> {
        match self {
            Self::Directory(dir) => {
                let path = dir.join(folder);
                match folder.is_empty() || path.is_dir() {
                    true => list_dir(&path),
                    false => Ok(Vec::new()),
                }
            }
            Self::Repository { names, .. } => {
                let prefix = if folder.is_empty() {
                    String::new()
                } else {
                    format!("{folder}/")
                };
                let inside = names.iter().filter_map(|name| name.strip_prefix(&prefix));
                let entries: BTreeSet<String> = inside
                    .map(|name| match name.split_once('/') {
                        Some((folder, _)) => format!("{folder}/"),
                        None => name.to_owned(),
                    })
                    .collect();
                Ok(entries.into_iter().collect())
            }
        }
    }

    /// All files, by their names from the top on.
    pub(crate) fn all(&self) -> Result<Vec<String>, DataError> {
        let dir = match self {
            Self::Repository { names, .. } => return Ok(names.to_vec()),
            Self::Directory(dir) => dir,
        };
        let mut found = Vec::new();
        let mut pending = vec![String::new()];
        while let Some(folder) = pending.pop() {
            for name in list_dir(&dir.join(&folder))? {
                match name.strip_suffix('/') {
                    Some(inner) => pending.push(format!("{folder}{inner}/")),
                    None => found.push(format!("{folder}{name}")),
                }
            }
        }
        Ok(found)
    }

    /// The files that patterns name: in the order of the patterns, and of the names within one.
    fn matching(&self, patterns: &[String], split: Split) -> Result<Vec<String>, DataError> {
        const OPTIONS: MatchOptions = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let names = self.all()?;
        let mut found: Vec<String> = Vec::new();
        for pattern in patterns {
            let plain = pattern.trim_start_matches("./");
            let mut matching: Vec<&String> = match names.iter().find(|name| *name == plain) {
                // A name may have brackets of its own.
                Some(name) => vec![name],
                None => {
                    let compiled = Pattern::new(plain).map_err(|error| DataError::FilePattern {
                        split,
                        pattern: pattern.clone(),
                        problem: error.msg.to_owned(),
                    })?;
                    let names = names.iter();
                    names
                        .filter(|name| compiled.matches_with(name, OPTIONS))
                        .collect()
                }
            };
            if matching.is_empty() {
                return Err(DataError::FilePattern {
                    split,
                    pattern: pattern.clone(),
                    problem: format!(
                        "no file in `{}` matches; there are {}",
                        self.place().display(),
                        quoted(&names)
                    ),
                });
            }
            matching.sort();
            let new: Vec<String> = matching.into_iter().cloned().collect();
            found.extend(
                new.into_iter()
                    .filter(|name| !found.contains(name))
                    .collect::<Vec<_>>(),
            );
        }
        Ok(found)
    }

    /// The Hub's own rule: a file belongs to a split if the split's name stands somewhere in its path,
    /// as a word of its own.
    fn loosely_named(
        &self,
        names: &[String],
        split: Split,
        wanted: Option<&str>,
    ) -> Result<Vec<String>, DataError> {
        // By the folder that holds the splits, which is what configurations differ in.
        let mut by_folder: BTreeMap<String, Vec<(Format, String)>> = BTreeMap::new();
        for name in names {
            let Some((_, format, _)) = Format::split_name(name) else {
                continue;
            };
            let parts: Vec<&str> = name.split('/').collect();
            if let Some(place) = parts.iter().position(|part| has_word(part, words(split))) {
                let folder = parts[..place].join("/");
                let files = by_folder.entry(folder).or_default();
                files.push((format, name.clone()));
            }
        }
        if let Some(wanted) = wanted {
            by_folder.retain(|folder, _| folder.split('/').any(|part| part == wanted));
        }
        // Beside files in a format of rows, a .json is more likely a description.
        let mut files = by_folder.values().flatten();
        if files.any(|(format, _)| *format != Format::Json) {
            by_folder.values_mut().for_each(|files| {
                files.retain(|(format, _)| *format != Format::Json);
            });
            by_folder.retain(|_, files| !files.is_empty());
        }
        let folders: Vec<&str> = by_folder.keys().map(String::as_str).collect();
        if folders.len() > 1 {
            return Err(self.several(&folders));
        }
        let found = by_folder.into_values().next().unwrap_or_default();
        let formats: BTreeSet<Format> = found.iter().map(|(format, _)| *format).collect();
        let found: Vec<String> = found.into_iter().map(|(_, name)| name).collect();
        match formats.len() {
            0 | 1 => Ok(found),
            _ => Err(DataError::AmbiguousSplit {
                split,
                dir: self.place().to_owned(),
                files: quoted(&found),
            }),
        }
    }

    fn several(&self, names: &[&str]) -> DataError {
        DataError::SeveralConfigs {
            place: self.place().to_owned(),
            names: quoted(names),
        }
    }

    fn missing(&self, split: Split, found: &[String]) -> DataError {
        DataError::MissingSplit {
            split,
            dir: self.place().to_owned(),
            expected: expected_names(split),
            found: quoted(found),
        }
    }
}

/// What the Hub takes for the name of a split.
fn words(split: Split) -> &'static [&'static str] {
    match split {
        Split::Train => &["train", "training"],
        Split::Validation => &["validation", "valid", "dev", "val"],
        Split::Test => &["test", "testing", "eval", "evaluation"],
    }
}

/// Whether one of `words` stands in `part` between characters that are no letters.
fn has_word(part: &str, words: &[&str]) -> bool {
    part.split(|letter: char| !letter.is_ascii_alphabetic())
        .any(|word| words.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileSelection;

    fn dir_with(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    fn config() -> DataConfig {
        DataConfig::new("unused")
    }

    fn with_config(name: &str) -> DataConfig {
        DataConfig {
            config: Some(name.to_owned()),
            ..config()
        }
    }

    /// In a directory of these files.
    fn here(names: &[&str], split: Split, config: &DataConfig) -> Result<Vec<String>, String> {
        let dir = dir_with(names);
        let found = find_split(dir.path(), split, config).map_err(|error| error.to_string())?;
        let relative = |path: PathBuf| path.strip_prefix(dir.path()).unwrap().to_owned();
        let files = found.files.into_iter();
        Ok(files
            .map(|path| relative(path).to_str().unwrap().to_owned())
            .collect())
    }

    /// In a repository of these files.
    fn there(names: &[&str], split: Split, config: &DataConfig) -> Result<Vec<String>, String> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let tree = FileTree::Repository {
            id: Path::new("org/name"),
            names: &names,
        };
        let found = tree.split(split, config, &DatasetCard::default());
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn a_missing_split_lists_what_is_there() {
        let dir = dir_with(&["train.jsonl", "notes.txt", "testing.csv", "test-final.csv"]);
        fs::create_dir(dir.path().join("data")).unwrap();
        let error = find_split(dir.path(), Split::Test, &config()).unwrap_err();
        let error = error.to_string();
        let listed = "found `data/`, `notes.txt`, `test-final.csv`, `testing.csv`, `train.jsonl`";
        assert!(error.contains(listed), "{error}");
        let error = find_split(dir.path(), Split::Validation, &config()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("`validation|valid|val|dev`"), "{error}");
    }

    #[test]
    fn a_path_that_is_no_directory_is_said_to_be_none() {
        let dir = dir_with(&["train.jsonl"]);
        let file = dir.path().join("train.jsonl");
        let error = find_split(&file, Split::Train, &config()).unwrap_err();
        assert!(matches!(error, DataError::NotADirectory { .. }));
    }

    #[test]
    fn shards_in_the_data_folder_and_in_that_of_a_configuration_are_found() {
        let names = [
            "data/train-00001-of-00002.parquet",
            "data/train-00000-of-00002.parquet",
            "small/test-00000-of-00001.parquet",
            "data/large/test.csv",
        ];
        for find in [here, there] {
            assert_eq!(
                find(&names, Split::Train, &config()).unwrap(),
                [names[1], names[0]]
            );
            assert_eq!(
                find(&names, Split::Test, &with_config("small")).unwrap(),
                [names[2]]
            );
            assert_eq!(
                find(&names, Split::Test, &with_config("large")).unwrap(),
                [names[3]]
            );
        }
        let error = here(&names, Split::Test, &config()).unwrap_err();
        assert!(error.contains("no test split"), "{error}");
    }

    #[test]
    fn patterns_name_files_whatever_they_are_called() {
        let names = [
            "corpus/b.jsonl",
            "corpus/a.jsonl",
            "corpus/deep/c.jsonl",
            "odd [1].csv",
        ];
        let chosen = |pattern: &str| DataConfig {
            files: FileSelection::exactly(Split::Train, vec![pattern.to_owned()]),
            ..config()
        };
        for find in [here, there] {
            let found = |pattern: &str| find(&names, Split::Train, &chosen(pattern));
            assert_eq!(found("corpus/*.jsonl").unwrap(), [names[1], names[0]]);
            assert_eq!(found("**/c.jsonl").unwrap(), [names[2]]);
            assert_eq!(found("odd [1].csv").unwrap(), [names[3]]);
            let error = found("*.jsonl").unwrap_err();
            assert!(
                error.contains("`*.jsonl`") && error.contains("matches"),
                "{error}"
            );
            let error = found("a[").unwrap_err();
            assert!(error.contains("`a[`"), "{error}");
            let error = find(&names, Split::Test, &chosen("*")).unwrap_err();
            assert!(error.contains("no test split"), "{error}");
        }
    }

    #[test]
    fn a_card_in_the_directory_names_the_files() {
        let dir = dir_with(&["corpus/a.csv", "corpus/b.csv"]);
        let card = "---\nconfigs:\n- config_name: x\n  data_files:\n  - {split: train, path: 'corpus/b*'}\n---\n";
        fs::write(dir.path().join("README.md"), card).unwrap();
        let found = find_split(dir.path(), Split::Train, &config()).unwrap();
        assert_eq!(found.files, [dir.path().join("corpus/b.csv")]);
        let error = find_split(dir.path(), Split::Test, &config()).unwrap_err();
        assert!(matches!(error, DataError::MissingSplit { .. }));
    }

    #[test]
    fn on_the_hub_the_name_of_a_split_is_a_word_in_the_path() {
        let names = [
            "my_train_set.csv",
            "contest.csv",
            "x/eval-1.jsonl",
            "retrain.csv",
        ];
        assert_eq!(there(&names, Split::Train, &config()).unwrap(), [names[0]]);
        assert_eq!(there(&names, Split::Test, &config()).unwrap(), [names[2]]);
        let folders = [
            "default/partial-train/0001.parquet",
            "default/partial-train/0000.parquet",
        ];
        let found = there(&folders, Split::Train, &config()).unwrap();
        assert_eq!(found, folders);
        assert!(here(&names, Split::Train, &config()).is_err());
    }

    #[test]
    fn on_the_hub_a_json_beside_files_of_rows_is_no_split() {
        for names in [
            ["my-train.jsonl", "my-train-stats.json"],
            ["x/train/0.parquet", "x/train/info.json"],
            ["x/train.csv.gz", "scores/train.json"],
        ] {
            let found = there(&names, Split::Train, &config()).unwrap();
            assert_eq!(found, [names[0]]);
        }
        let alone = there(&["x/my_train.json"], Split::Train, &config());
        assert_eq!(alone.unwrap(), ["x/my_train.json"]);
    }

    #[test]
    fn several_configurations_are_a_question_and_one_is_chosen() {
        let names = ["en/train/0.csv", "de/train/0.csv"];
        let error = there(&names, Split::Train, &config()).unwrap_err();
        assert!(
            error.contains("`de`, `en`") && error.contains("data.config"),
            "{error}"
        );
        assert_eq!(
            there(&names, Split::Train, &with_config("en")).unwrap(),
            [names[0]]
        );
        let error = there(&["a-train.csv", "b-train.jsonl"], Split::Train, &config());
        assert!(error.unwrap_err().contains("more than one train split"));
    }
}
