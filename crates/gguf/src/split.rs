//! Files that were split: `NAME-00001-of-00003.gguf` and so on, of which the first has the metadata.

use std::path::{Path, PathBuf};

use eigenmix_tensors::FileError;

use crate::error::GgufError;
use crate::file::GgufFile;

const COUNT: &str = "split.count";
const NUMBER: &str = "split.no";
const TENSORS: &str = "split.tensors.count";

/// The whole of the file that `opened` is a part of; itself, if it was never split.
pub(crate) fn with_other_parts(opened: GgufFile) -> Result<GgufFile, GgufError> {
    let count = opened.unsigned(COUNT)?.unwrap_or(1);
    if count <= 1 {
        return Ok(opened);
    }
    let number = opened.required(NUMBER, opened.unsigned(NUMBER)?)?;
    let named = || GgufError::PartName {
        path: opened.path().to_owned(),
        part: number.saturating_add(1),
        count,
    };
    let name = opened.path().file_name().and_then(|name| name.to_str());
    let stem = name
        .zip(number.checked_add(1))
        .and_then(|(name, part)| name.strip_suffix(&ending(part, count)))
        .ok_or_else(named)?;
    let path_of = |part| {
        let name = format!("{stem}{}", ending(part, count));
        opened.path().with_file_name(name)
    };

    // The first part has the metadata; if it is the one that was named, it is open already.
    let rest = 2..=count;
    let paths: Vec<PathBuf> = rest.clone().map(path_of).collect();
    let mut whole = match number {
        0 => opened,
        _ => open_part(path_of(1), 1, count)?,
    };
    for (part, path) in rest.zip(paths) {
        whole = whole.joined_with(open_part(path, part, count)?)?;
    }
    let found = whole.names().count() as u64;
    match whole.unsigned(TENSORS)? {
        Some(expected) if expected != found => Err(GgufError::OtherPart {
            path: whole.path().to_owned(),
            what: "the number of tensors of all parts",
            expected: expected.to_string(),
            found: found.to_string(),
        }),
        _ => Ok(whole),
    }
}

/// The names of all parts of the file that `name` is a part of, by the name alone; itself, if it is not
/// the name of a part.
pub fn part_names(name: &str) -> Vec<String> {
    let found = || {
        // llama.cpp knows parts by exactly this ending.
        let stem = name.strip_suffix(".gguf")?;
        let (stem, count) = stem.rsplit_once("-of-")?;
        let (stem, part) = stem.rsplit_once('-')?;
        let number = |digits: &str| {
            let is_number = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse::<u64>().ok()).flatten()
        };
        let (part, count) = (number(part)?, number(count)?);
        let names = (1..=count).map(|part| format!("{stem}{}", ending(part, count)));
        (1..=count).contains(&part).then(|| names.collect())
    };
    found().unwrap_or_else(|| vec![name.to_owned()])
}

fn ending(part: u64, count: u64) -> String {
    format!("-{part:05}-of-{count:05}.gguf")
}

fn open_part(path: PathBuf, part: u64, count: u64) -> Result<GgufFile, GgufError> {
    let opened = GgufFile::open_one(&path).map_err(|error| match error {
        GgufError::File(FileError::NotFound(path)) => GgufError::MissingPart { path, part, count },
        other => other,
    })?;
    let expect = |what, key: &str, expected: u64| {
        let found = opened.required(key, opened.unsigned(key)?)?;
        if found == expected {
            return Ok(());
        }
        Err(other_part(&path, what, expected, found))
    };
    expect("`split.count`", COUNT, count)?;
    expect("`split.no`", NUMBER, part - 1)?;
    Ok(opened)
}

fn other_part(path: &Path, what: &'static str, expected: u64, found: u64) -> GgufError {
    GgufError::OtherPart {
        path: path.to_owned(),
        what,
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::part_names;

    #[test]
    fn the_name_of_a_part_tells_those_of_all() {
        let all = ["Q4/a-of-00001-of-00002.gguf", "Q4/a-of-00002-of-00002.gguf"];
        assert_eq!(part_names(all[1]), all);
        for whole in [
            "a.gguf",
            "a-00003-of-00002.gguf",
            "a-0001-of-0002.gguf",
            "a-00001-of-+0002.gguf",
            "a-00001-of-00002.bin",
        ] {
            assert_eq!(part_names(whole), [whole]);
        }
    }
}
