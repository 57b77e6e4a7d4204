//! What `predict` is given: lines, or the rows of a table.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, stdin};
use std::path::Path;
use std::sync::Arc;

use eigenmix_data::{DataConfig, Place, PredictionTable, Row};
use eigenmix_experiment::BadInput;

/// Lines one after the other, as they come; or a table, read whole.
pub(super) enum Input {
    Lines(Lines),
    Table(PredictionTable),
}

impl Input {
    /// - config: which columns may be read of a table
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn open(path: &Path, config: &DataConfig) -> anyhow::Result<Self> {
        match PredictionTable::is_one(path) {
            true => Ok(Self::Table(PredictionTable::read(path, config)?)),
            false => {
                require_lines(path)?;
                Ok(Self::Lines(Lines::open(path)?))
            }
        }
    }
}

/// How the names of tables end that are not read as tables here, and of compressed files, which have no
/// lines.
const NO_LINES: [&str; 15] = [
    "jsonl", "ndjson", "json", "csv", "tsv", "parquet", "arrow", "feather", "xlsx", "xls", "ods",
    "gz", "zst", "bz2", "xz",
];

/// Refuses a file that is a table by its name, though of no format that is read: its rows would be
/// taken for texts.
fn require_lines(path: &Path) -> Result<(), BadInput> {
    let ending = path.extension().and_then(|ending| ending.to_str());
    match ending.map(str::to_lowercase) {
        Some(ending) if NO_LINES.contains(&ending.as_str()) => Err(BadInput(format!(
            "`{}` is no file of lines by its name, and tables are .jsonl, .json, .csv, .tsv (also as .gz \
             or .zst) or .parquet; rename or convert it, or give it as lines with `--input -`",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// The lines of a file, or of standard input for `-`.
pub(super) struct Lines {
    reader: Box<dyn BufRead>,
    name: Arc<Path>,
    number: usize,
    /// Whether they come from standard input.
    are_awaited: bool,
}

impl Lines {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let (reader, name): (Box<dyn BufRead>, _) = match path == Path::new("-") {
            true => (Box::new(stdin().lock()), Path::new("standard input")),
            false => {
                let problem =
                    |error| BadInput(format!("cannot read `{}`: {error}", path.display()));
                let file = File::open(path).map_err(problem)?;
                (Box::new(BufReader::new(file)), path)
            }
        };
        Ok(Self {
            reader,
            name: name.into(),
            number: 0,
            are_awaited: path == Path::new("-"),
        })
    }

    /// Whether they may come one by one: those of standard input.
    pub(super) fn are_awaited(&self) -> bool {
        self.are_awaited
    }

    /// The next line without its end, and its place.
    fn next_line(&mut self) -> anyhow::Result<Option<(String, Place)>> {
        self.number += 1;
        let (number, name) = (self.number, self.name.display());
        let mut line = String::new();
        let read = self.reader.read_line(&mut line);
        let read = read.map_err(|error| match error.kind() {
            ErrorKind::InvalidData => anyhow::Error::new(BadInput(format!(
                "line {number} of `{name}` is not UTF-8; convert it"
            ))),
            _ => {
                anyhow::Error::new(error).context(format!("cannot read line {number} of `{name}`"))
            }
        })?;
        if read == 0 {
            return Ok(None);
        }
        let end = line.trim_end_matches('\n').trim_end_matches('\r').len();
        line.truncate(end);
        if number == 1
            && let Some(rest) = line.strip_prefix('\u{feff}')
        {
            line = rest.to_owned();
        }
        let place = Place {
            file: Arc::clone(&self.name),
            line: number,
        };
        Ok(Some((line, place)))
    }
}

impl Iterator for Lines {
    type Item = anyhow::Result<(String, Place)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_line().transpose()
    }
}

/// A line as a text, or as two with a tab between them for a model of pairs.
///
/// # Errors
/// If the model is one of pairs and the line is none.
pub(super) fn row_of_line(
    (text, place): (String, Place),
    config: &DataConfig,
) -> Result<Row, BadInput> {
    let Some(column) = &config.text_pair else {
        return Ok(Row {
            text,
            text_pair: None,
            label: None,
            place,
        });
    };
    match text.split_once('\t') {
        Some((first, second)) if !second.contains('\t') => Ok(Row {
            text: first.to_owned(),
            text_pair: Some(second.to_owned()),
            label: None,
            place,
        }),
        found => Err(BadInput(format!(
            "{place}: the model was trained on pairs of texts, and the line has {}; put one tab \
             between the two texts, or give a table with the columns `{}` and `{column}` to --input",
            match found {
                None => "no tab",
                Some(_) => "more than one tab",
            },
            config.text
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(line: &str, pair: bool) -> Result<Row, String> {
        let config = DataConfig {
            text_pair: pair.then(|| "hypothesis".to_owned()),
            ..DataConfig::new("")
        };
        let place = Place {
            file: Path::new("standard input").into(),
            line: 3,
        };
        row_of_line((line.to_owned(), place), &config).map_err(|error| error.to_string())
    }

    #[test]
    fn a_table_by_another_name_is_not_taken_for_lines() {
        for name in ["rows.CSV", "rows.ndjson", "rows.xlsx", "rows.txt.gz"] {
            let error = require_lines(Path::new(name)).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("rename"), "{error}");
        }
        for name in ["rows.txt", "rows", "-", "rows.v2"] {
            assert!(require_lines(Path::new(name)).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_line_is_a_pair_where_the_model_takes_pairs() {
        let pair = row("it rains\tit is wet", true).unwrap();
        assert_eq!(pair.text, "it rains");
        assert_eq!(pair.text_pair.as_deref(), Some("it is wet"));
        let single = row("it rains\tit is wet", false).unwrap();
        assert_eq!(single.text, "it rains\tit is wet");
        for (line, found) in [("it rains", "no tab"), ("a\tb\tc", "more than one tab")] {
            let error = row(line, true).unwrap_err();
            assert!(error.starts_with("standard input:3: "), "{error}");
            assert!(
                error.contains(found) && error.contains("`hypothesis`"),
                "{error}"
            );
        }
    }
}
