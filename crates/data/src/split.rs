//! The three parts of a dataset and the files that may hold one of them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::data_file::Compression;
use crate::error::{DataError, quoted};

/// A part of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    Train,
    Validation,
    Test,
}

impl Split {
    pub fn name(self) -> &'static str {
        self.stems()[0]
    }

    /// The names a file of the split may have, the usual one first.
    pub(crate) fn stems(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train"],
            Self::Validation => &["validation", "valid", "val", "dev"],
            Self::Test => &["test"],
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Split {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        [Self::Train, Self::Validation, Self::Test]
            .into_iter()
            .find(|split| split.stems().contains(&name))
            .ok_or_else(|| DataError::UnknownSplit {
                found: name.to_owned(),
            })
    }
}

/// The formats rows are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Format {
    JsonLines,
    Csv,
    Parquet,
    /// An array of objects, or JSON lines under the more general name.
    Json,
}

impl Format {
    /// What the name of a file of rows is without its endings, and what these say; `None` of other
    /// files.
    pub(crate) fn split_name(name: &str) -> Option<(&str, Self, Option<Compression>)> {
        let (name, compression) = Compression::split_name(name);
        let (base, extension) = name.rsplit_once('.')?;
        let format = match extension {
            "jsonl" => Self::JsonLines,
            "json" => Self::Json,
            "csv" | "tsv" => Self::Csv,
            "parquet" if compression.is_none() => Self::Parquet,
            _ => return None,
        };
        Some((base, format, compression))
    }
}

/// A file that may be (a shard of) a split.
struct Candidate {
    stem: &'static str,
    format: Format,
    /// Its index and how many shards there are, from `train-00000-of-00002.parquet`.
    shard: Option<(usize, usize)>,
    name: String,
}

impl Candidate {
    fn parse(name: &str, split: Split) -> Option<Self> {
        let (base, format, _) = Format::split_name(name)?;
        split.stems().iter().find_map(|stem| {
            let rest = base.strip_prefix(stem)?;
            let shard = match rest.strip_prefix('-') {
                Some(numbers) => Some(parse_shard(numbers)?),
                None if rest.is_empty() => None,
                None => return None,
            };
            Some(Self {
                stem,
                format,
                shard,
                name: name.to_owned(),
            })
        })
    }
}

/// `00003-of-00008`, or with a hash after it as the Hub once wrote: `00003-of-00008-4c7a50`.
fn parse_shard(numbers: &str) -> Option<(usize, usize)> {
    let mut parts = numbers.split('-');
    let index = parts.next()?.parse().ok()?;
    if parts.next()? != "of" {
        return None;
    }
    let count = parts.next()?.parse().ok()?;
    let hash_is_one = parts
        .next()
        .is_none_or(|hash| hash.chars().all(|char| char.is_ascii_hexdigit()));
    (hash_is_one && parts.next().is_none()).then_some((index, count))
}

/// Those of the files of one folder that are a split, in the order of their shards; none if no name
/// says so.
///
/// - place: where they are, for messages
///
/// # Errors
/// When more than one could be it, or when a shard is missing.
pub(crate) fn pick_split(
    names: &[String],
    split: Split,
    place: &Path,
) -> Result<Vec<String>, DataError> {
    let mut candidates: Vec<Candidate> = names
        .iter()
        .filter_map(|name| Candidate::parse(name, split))
        .collect();
    // Of a file in a format of rows, a .json beside it is more likely a description.
    if candidates.iter().any(|file| file.format != Format::Json) {
        candidates.retain(|file| file.format != Format::Json);
    }
    let Some(first) = candidates.first() else {
        return Ok(Vec::new());
    };
    let shards = first.shard.map(|(_, count)| count);

    let alternatives: BTreeSet<_> = candidates
        .iter()
        .map(|file| (file.stem, file.format, file.shard.map(|(_, count)| count)))
        .collect();
    let distinct: BTreeSet<_> = candidates.iter().map(|file| file.shard).collect();
    if alternatives.len() > 1 || distinct.len() < candidates.len() {
        let files: Vec<&str> = candidates.iter().map(|file| file.name.as_str()).collect();
        return Err(DataError::AmbiguousSplit {
            split,
            dir: place.to_owned(),
            files: quoted(&files),
        });
    }

    if let Some(expected) = shards
        && let Some(missing) =
            (0..expected).find(|index| !distinct.contains(&Some((*index, expected))))
    {
        return Err(DataError::MissingShard {
            split,
            dir: place.to_owned(),
            expected,
            missing,
        });
    }
    candidates.sort_by_key(|file| file.shard);
    Ok(candidates.into_iter().map(|file| file.name).collect())
}

pub(crate) fn expected_names(split: Split) -> String {
    let stems = split.stems().join("|");
    format!("`{stems}` with .jsonl, .csv, .parquet or .json (texts also as .gz or .zst)")
}

/// The names in a directory, sorted; a directory's ends in `/`.
pub(crate) fn list_dir(dir: &Path) -> Result<Vec<String>, DataError> {
    if !dir.is_dir() {
        return Err(DataError::NotADirectory {
            path: dir.to_owned(),
        });
    }
    let unreadable = |source| DataError::Io {
        path: dir.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let mut name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            name.push('/');
        }
        names.push(name);
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str], split: Split) -> Result<Vec<String>, String> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        pick_split(&names, split, Path::new("data")).map_err(|error| error.to_string())
    }

    #[test]
    fn each_split_is_found_under_each_of_its_names() {
        let names = ["train.csv", "dev.jsonl", "test.parquet", "README.md"];
        assert_eq!(found(&names, Split::Train).unwrap(), ["train.csv"]);
        assert_eq!(found(&names, Split::Validation).unwrap(), ["dev.jsonl"]);
        assert_eq!(found(&names, Split::Test).unwrap(), ["test.parquet"]);
        assert_eq!(
            found(&["valid.csv"], Split::Validation).unwrap(),
            ["valid.csv"]
        );
    }

    #[test]
    fn json_is_a_split_where_no_other_file_is() {
        let found = |names: &[&str]| found(names, Split::Train).unwrap();
        assert_eq!(found(&["train.json"]), ["train.json"]);
        assert_eq!(found(&["train.json", "train.csv"]), ["train.csv"]);
        assert_eq!(found(&["train.tsv"]), ["train.tsv"]);
        assert_eq!(
            found(&["train.json.gz", "train.csv.zst"]),
            ["train.csv.zst"]
        );
        assert!(found(&["train.parquet.gz"]).is_empty());
    }

    #[test]
    fn shards_come_in_the_order_of_their_numbers() {
        let names = [
            "train-00001-of-00003-9f00aa.parquet",
            "train-00002-of-00003.parquet",
            "train-00000-of-00003.parquet",
        ];
        assert_eq!(
            found(&names, Split::Train).unwrap(),
            [names[2], names[0], names[1]]
        );
    }

    #[test]
    fn a_missing_shard_is_named() {
        let names = [
            "train-00000-of-00003.parquet",
            "train-00002-of-00003.parquet",
        ];
        let error = found(&names, Split::Train).unwrap_err();
        assert!(error.contains("3 shards, but shard 1"), "{error}");
    }

    #[test]
    fn two_files_for_one_split_are_ambiguous() {
        for names in [
            ["train.jsonl", "train.csv"],
            ["train.jsonl", "train-00000-of-00001.jsonl"],
            ["train-00000-of-00001.csv", "train-00000-of-00001-ab.csv"],
        ] {
            let error = found(&names, Split::Train).unwrap_err();
            assert!(error.contains("more than one train split"), "{error}");
            for name in names {
                assert!(error.contains(name), "{error}");
            }
        }
        let error = found(&["dev.csv", "validation.csv"], Split::Validation).unwrap_err();
        assert!(error.contains("`dev.csv`, `validation.csv`"), "{error}");
    }

    #[test]
    fn a_split_is_parsed_from_its_names_and_nothing_else() {
        assert_eq!("dev".parse::<Split>().unwrap(), Split::Validation);
        assert_eq!("test".parse::<Split>().unwrap(), Split::Test);
        assert!("Train".parse::<Split>().is_err());
    }
}
