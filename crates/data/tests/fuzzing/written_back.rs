//! What is written back of a table of predictions holds what the table held.

use std::fs;
use std::path::Path;

use eigenmix_data::{DataConfig, PredictedColumn, PredictedValues, PredictionTable};
use proptest::prelude::*;

/// Writes predictions behind the rows of a file that is a table, beside it, and compares.
///
/// # Panics
/// When a file cannot be written.
pub fn check(path: &Path, config: &DataConfig) -> Result<(), TestCaseError> {
    let Ok(table) = PredictionTable::read(path, config) else {
        return Ok(());
    };
    let names = ["prediction", "score"];
    if table.require_free(&names).is_err() {
        return Ok(());
    }
    let columns = columns(table.len());
    let Ok(content) = table.with_predictions(&columns) else {
        return Ok(());
    };
    let content = table.compressed(content).expect("memory");
    let folder = path.parent().expect("a folder").join("written");
    fs::create_dir(&folder).expect("a folder");
    let written = folder.join(path.file_name().expect("a name"));
    fs::write(&written, content).expect("a file");
    let again = PredictionTable::read(&written, config);
    let again = again.map_err(|error| TestCaseError::fail(format!("not read again: {error}")))?;
    prop_assert_eq!(again.len(), table.len());
    prop_assert!(again.require_free(&names[..1]).is_err());
    prop_assert!(again.require_free(&names[1..]).is_err());
    // Without their places, which name another file.
    let read = |table: &PredictionTable| {
        let texts = table.texts(config).ok();
        let texts = texts.map(|rows| {
            let rows = rows.into_iter().map(|row| (row.text, row.text_pair));
            rows.collect::<Vec<_>>()
        });
        let prompts = table.prompts(config).ok();
        let prompts = prompts.map(|rows| {
            let contents = rows.into_iter().map(|row| row.content);
            contents.collect::<Vec<_>>()
        });
        (texts, prompts)
    };
    prop_assert_eq!(read(&again), read(&table));
    let (before, after) = (own::rows(path)?, own::rows(&written)?);
    prop_assert_eq!(before.len(), after.len());
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        let kept = after.get(..before.len());
        prop_assert_eq!(kept, Some(before.as_slice()), "row {}", index);
        let expected = [
            ("prediction".to_owned(), format!("\"p\", {index}")),
            ("score".to_owned(), (index as f64 + 0.1).to_string()),
        ];
        prop_assert_eq!(&after[before.len()..], expected, "row {}", index);
    }
    Ok(())
}

fn columns(rows: usize) -> Vec<PredictedColumn> {
    let numbers = 0..rows;
    vec![
        PredictedColumn {
            name: "prediction".to_owned(),
            values: PredictedValues::Texts(
                numbers.clone().map(|row| format!("\"p\", {row}")).collect(),
            ),
        },
        PredictedColumn {
            name: "score".to_owned(),
            values: PredictedValues::Numbers(numbers.map(|row| row as f64 + 0.1).collect()),
        },
    ]
}

/// Tables read by the libraries of their formats, without the code that is tested.
mod own {
    use std::fs::{self, File};
    use std::io::Read;
    use std::path::Path;

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use proptest::prelude::TestCaseError;
    use serde_json::{Map, Value};

    type Rows = Vec<Vec<(String, String)>>;

    pub fn rows(path: &Path) -> Result<Rows, TestCaseError> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.expect("a name in ASCII");
        let file = fs::read(path).expect("a file");
        let mut content = Vec::new();
        let name = match name.rsplit_once('.').expect("an ending") {
            (rest, "gz") => {
                let mut decoder = flate2::read::MultiGzDecoder::new(file.as_slice());
                decoder.read_to_end(&mut content).expect("it was read");
                rest
            }
            (rest, "zst") => {
                content = zstd::decode_all(file.as_slice()).expect("it was read");
                rest
            }
            _ => {
                content = file;
                name
            }
        };
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content);
        match name.rsplit_once('.').expect("an ending").1 {
            "parquet" => parquet(path),
            "jsonl" | "json" => json(content),
            ending => csv(content, ending),
        }
    }

    fn json(content: &[u8]) -> Result<Rows, TestCaseError> {
        let shown = |fields: &Map<String, Value>| {
            let fields = fields.iter().map(|(name, value)| {
                let text = value.as_str().map(str::to_owned);
                (name.clone(), text.unwrap_or_else(|| value.to_string()))
            });
            fields.collect()
        };
        if let Ok(rows) = serde_json::from_slice::<Vec<Map<String, Value>>>(content) {
            return Ok(rows.iter().map(shown).collect());
        }
        let stream = serde_json::Deserializer::from_slice(content);
        let rows = stream.into_iter::<Map<String, Value>>();
        rows.map(|row| row.as_ref().map(shown).map_err(fail))
            .collect()
    }

    fn csv(content: &[u8], ending: &str) -> Result<Rows, TestCaseError> {
        let mut lines = content.split(|byte| b"\r\n".contains(byte));
        let header = lines.find(|line| !line.is_empty()).unwrap_or(&[]);
        let candidates = match ending {
            "tsv" => b"\t,;",
            _ => b",\t;",
        };
        let separator = candidates.iter().find(|byte| header.contains(byte));
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(*separator.unwrap_or(&b','))
            .from_reader(content);
        let header = reader.headers().map_err(|error| fail(&error))?.clone();
        let rows = reader.records().map(|record| {
            let record = record.map_err(|error| fail(&error))?;
            let cells = header.iter().zip(&record);
            Ok(cells
                .map(|(name, cell)| (name.to_owned(), cell.to_owned()))
                .collect())
        });
        rows.collect()
    }

    fn parquet(path: &Path) -> Result<Rows, TestCaseError> {
        let file = File::open(path).expect("a file");
        let reader = SerializedFileReader::new(file).map_err(|error| fail(&error))?;
        // Columns that were not read may be damaged: what is written has them as they are.
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let rows = reader.get_row_iter(None).ok()?;
            let rows = rows.map(|row| {
                let row = row.ok()?;
                let cells = row.get_column_iter();
                let text = |field: &parquet::record::Field| match field {
                    parquet::record::Field::Str(text) => text.clone(),
                    other => other.to_string(),
                };
                Some(
                    cells
                        .map(|(name, field)| (name.clone(), text(field)))
                        .collect(),
                )
            });
            rows.collect::<Option<Rows>>()
        }));
        Ok(shown.ok().flatten().unwrap_or_default())
    }

    fn fail(error: &impl ToString) -> TestCaseError {
        TestCaseError::fail(error.to_string())
    }
}
