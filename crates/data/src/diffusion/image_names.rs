//! Which files among many are the images of a split or of a subject, by their names alone: here and in a
//! repository on the Hub, of which only these are fetched.

use std::collections::HashSet;

use glob::{MatchOptions, Pattern};

use super::caption_folder::METADATA;
use super::error::DiffusionDataError;
use crate::images::is_image;
use crate::split::Split;

/// Why names are none of a subject.
pub(crate) enum NameProblem {
    /// Nothing has this name or matches it.
    Nothing(String),
    Pattern(DiffusionDataError),
}

/// The images of a subject: those at the top, or those that `wanted` names: files, folders, or patterns.
///
/// # Errors
/// When nothing is called as `wanted` says.
pub(crate) fn names_of_instances(
    names: &[String],
    wanted: Option<&[String]>,
) -> Result<Vec<String>, NameProblem> {
    const OPTIONS: MatchOptions = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let in_folder = |folder: &str| -> Vec<String> {
        let images = names.iter().filter(|name| {
            let rest = name.strip_prefix(folder);
            rest.is_some_and(|rest| !rest.contains('/') && !rest.starts_with('.') && is_image(rest))
        });
        images.cloned().collect()
    };
    let Some(wanted) = wanted else {
        let mut found = in_folder("");
        found.sort();
        return Ok(found);
    };
    let mut all = Vec::new();
    for entry in wanted {
        let plain = entry.trim_start_matches("./").trim_end_matches('/');
        let mut found = match names.iter().any(|name| name == plain) {
            // A name may have brackets of its own.
            true => vec![plain.to_owned()],
            false => in_folder(&format!("{plain}/")),
        };
        if found.is_empty() {
            let pattern = Pattern::new(plain).map_err(|error| {
                NameProblem::Pattern(DiffusionDataError::ImagePattern {
                    pattern: entry.clone(),
                    problem: error.msg,
                })
            })?;
            let matching = names
                .iter()
                .filter(|name| pattern.matches_with(name, OPTIONS));
            found = matching.filter(|name| is_image(name)).cloned().collect();
        }
        if found.is_empty() {
            return Err(NameProblem::Nothing(entry.clone()));
        }
        found.sort();
        for name in found {
            if !all.contains(&name) {
                all.push(name);
            }
        }
    }
    Ok(all)
}

/// The files of the folder that is a split: images, captions and metadata.
///
/// - folder: that of a configuration
pub(crate) fn names_of_split(names: &[String], split: Split, folder: Option<&str>) -> Vec<String> {
    let tops = match folder {
        Some(name) => [format!("{name}/"), format!("data/{name}/")],
        None => [String::new(), "data/".to_owned()],
    };
    let folders = |split: Split| -> Vec<String> {
        let stems = split.stems().iter();
        let folders = stems.flat_map(|stem| tops.iter().map(move |top| format!("{top}{stem}/")));
        folders.collect()
    };
    let parts = || names.iter().filter(|name| is_part(name));
    let begins = |name: &str, folders: &[String]| {
        folders
            .iter()
            .any(|folder| name.starts_with(folder.as_str()))
    };
    let own = folders(split);
    let inside: Vec<String> = parts().filter(|name| begins(name, &own)).cloned().collect();
    if !inside.is_empty() {
        let is_above = |name: &&String| {
            let above = tops
                .iter()
                .filter_map(|top| name.strip_prefix(top.as_str()));
            { above }.any(|rest| METADATA.contains(&rest))
        };
        let above = parts().filter(is_above).cloned();
        return above.chain(inside).collect();
    }
    if split != Split::Train {
        return Vec::new();
    }
    let others: Vec<String> = [Split::Validation, Split::Test]
        .into_iter()
        .flat_map(folders)
        .collect();
    let Some(top) = tops
        .iter()
        .find(|top| names.iter().any(|name| name.starts_with(top.as_str())))
    else {
        return Vec::new();
    };
    let whole = parts().filter(|name| name.starts_with(top.as_str()) && !begins(name, &others));
    whole.cloned().collect()
}

/// Tables with the images that they may name: those in their folders and further inside. Parquet files mostly
/// have theirs inside them.
pub(crate) fn names_with_images(tables: &[String], names: &[String]) -> Vec<String> {
    let mut all = tables.to_vec();
    let mut seen: HashSet<&String> = HashSet::new();
    for table in tables.iter().filter(|table| !table.ends_with(".parquet")) {
        let folder = table.rsplit_once('/').map_or("", |(folder, _)| folder);
        let is_inside = |name: &str| {
            folder.is_empty() || {
                let rest = name.strip_prefix(folder);
                rest.is_some_and(|rest| rest.starts_with('/'))
            }
        };
        for name in names {
            if is_image(name) && is_inside(name) && seen.insert(name) {
                all.push(name.clone());
            }
        }
    }
    all
}

/// Whether a file may belong to a folder of images.
fn is_part(name: &str) -> bool {
    let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
    let is_caption = file.ends_with(".txt") || file.ends_with(".caption");
    is_image(file) || is_caption || METADATA.contains(&file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn instances(all: &[&str], wanted: Option<&[&str]>) -> Result<Vec<String>, String> {
        let wanted = wanted.map(names);
        names_of_instances(&names(all), wanted.as_deref()).map_err(|problem| match problem {
            NameProblem::Nothing(name) => name,
            NameProblem::Pattern(error) => error.to_string(),
        })
    }

    #[test]
    fn a_subject_is_what_lies_at_the_top_or_what_is_named() {
        let all = [
            "b.jpg",
            "a.png",
            "README.md",
            "dog/1.jpg",
            "dog/2.jpg",
            "dog/old/3.jpg",
            "x [1].png",
        ];
        assert_eq!(
            instances(&all, None).unwrap(),
            ["a.png", "b.jpg", "x [1].png"]
        );
        let dog = instances(&all, Some(&["dog"])).unwrap();
        assert_eq!(dog, ["dog/1.jpg", "dog/2.jpg"]);
        let mixed = instances(&all, Some(&["./dog/", "b.jpg", "dog/1.jpg"])).unwrap();
        assert_eq!(mixed, ["dog/1.jpg", "dog/2.jpg", "b.jpg"]);
        assert_eq!(
            instances(&all, Some(&["dog/*/*.jpg"])).unwrap(),
            ["dog/old/3.jpg"]
        );
        assert_eq!(
            instances(&all, Some(&["x [1].png"])).unwrap(),
            ["x [1].png"]
        );
        assert_eq!(instances(&all, Some(&["cat"])).unwrap_err(), "cat");
        assert!(instances(&all, Some(&["a["])).unwrap_err().contains("`a[`"));
    }

    #[test]
    fn a_split_is_the_folder_of_its_name_with_the_metadata_above_it() {
        let all = names(&[
            "README.md",
            "metadata.jsonl",
            "train/a.png",
            "train/deep/b.jpg",
            "train/a.txt",
            "train/notes.md",
            "test/c.png",
            "d.png",
        ]);
        let train = names_of_split(&all, Split::Train, None);
        let expected = [
            "metadata.jsonl",
            "train/a.png",
            "train/deep/b.jpg",
            "train/a.txt",
        ];
        assert_eq!(train, expected);
        let test = names_of_split(&all, Split::Test, None);
        assert_eq!(test, ["metadata.jsonl", "test/c.png"]);
        assert!(names_of_split(&all, Split::Validation, None).is_empty());
    }

    #[test]
    fn images_without_a_folder_of_their_split_are_the_training_split() {
        let all = names(&[
            "a.png",
            "x/b.png",
            "val/c.png",
            "en/d.png",
            "en/train/e.png",
        ]);
        let train = names_of_split(&all, Split::Train, None);
        assert_eq!(train, ["a.png", "x/b.png", "en/d.png", "en/train/e.png"]);
        assert_eq!(
            names_of_split(&all, Split::Train, Some("en")),
            ["en/train/e.png"]
        );
        assert!(names_of_split(&all, Split::Test, None).is_empty());
    }

    #[test]
    fn tables_come_with_the_images_in_their_folders() {
        let all = names(&[
            "train/metadata.csv",
            "train/a.png",
            "train/x/b.png",
            "trained/c.png",
            "d.png",
        ]);
        let found = names_with_images(&names(&["train/metadata.csv"]), &all);
        assert_eq!(
            found,
            ["train/metadata.csv", "train/a.png", "train/x/b.png"]
        );
        let found = names_with_images(&names(&["train.parquet"]), &all);
        assert_eq!(found, ["train.parquet"]);
    }
}
