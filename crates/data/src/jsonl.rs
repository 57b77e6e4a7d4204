//! Rows from JSON lines, the format in which every reader of data is first tried.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::byte_order_mark::without_mark;
use crate::config::DataConfig;
use crate::error::DataError;
use crate::label_list::in_a_list;
use crate::row::{LabelPolicy, Place, RawLabel, Row};
use crate::split::Format;
use crate::unread_columns::{ColumnTally, says_something};

/// Reads JSON lines: one object a line, blank lines skipped.
///
/// `file` names the source in errors; it need not exist (`<stdin>`).
///
/// # Errors
/// When reading fails, a line is not a JSON object, or a column is missing or of another type.
pub fn read_jsonl(
    reader: impl BufRead,
    file: &Arc<Path>,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<Vec<Row>, DataError> {
    read_counting(reader, file, config, labels, &mut ColumnTally::default())
}

/// The same, with a count of what the columns hold.
pub(crate) fn read_counting(
    reader: impl BufRead,
    file: &Arc<Path>,
    config: &DataConfig,
    labels: LabelPolicy,
    tally: &mut ColumnTally,
) -> Result<Vec<Row>, DataError> {
    let mut rows = Vec::new();
    for_each_object(reader, file, |columns, place| {
        rows.push(row(&columns, place, config, labels)?);
        for (name, value) in &columns {
            tally.see(name, config.reads(name), usize::from(says_something(value)));
        }
        Ok(())
    })?;
    Ok(rows)
}

/// Hands over the object of each line that is not blank, with its place; or of a `.json` that is one array
/// its objects, counted from 1.
///
/// # Errors
/// When reading fails, there is something other than JSON objects, or `take` fails.
pub(crate) fn for_each_object(
    mut reader: impl BufRead,
    file: &Arc<Path>,
    mut take: impl FnMut(Map<String, Value>, Place) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let unreadable = |source| DataError::Io {
        path: file.to_path_buf(),
        source,
    };
    let place = |line| Place {
        file: Arc::clone(file),
        line,
    };
    let mut take = |value, place| match value {
        Value::Object(columns) => take(columns, place),
        other => Err(DataError::NotAnObject {
            place,
            found: kind(&other),
        }),
    };
    let mut buffer = Vec::new();
    let name = file.file_name().and_then(|name| name.to_str());
    let format = name.and_then(Format::split_name);
    let is_json = format.is_some_and(|(_, format, _)| format == Format::Json);
    let mut is_first = true;
    for line in 1.. {
        buffer.clear();
        if reader.read_until(b'\n', &mut buffer).map_err(unreadable)? == 0 {
            break;
        }
        require_utf8(&buffer, line, file)?;
        let mut content = buffer.as_slice();
        if line == 1 {
            content = without_mark(content);
        }
        if content.trim_ascii().is_empty() {
            continue;
        }
        if is_json && is_first && content.trim_ascii_start().starts_with(b"[") {
            let mut array = content.to_vec();
            reader.read_to_end(&mut array).map_err(unreadable)?;
            let values: Vec<Value> =
                serde_json::from_slice(&array).map_err(|source| DataError::MalformedJson {
                    path: file.to_path_buf(),
                    source,
                })?;
            let mut numbered = values.into_iter().zip(1..);
            return numbered.try_for_each(|(value, number)| take(value, place(number)));
        }
        is_first = false;
        let value = serde_json::from_slice(content).map_err(|source| {
            let place = place(line);
            DataError::MalformedJsonLine { place, source }
        })?;
        take(value, place(line))?;
    }
    Ok(())
}

/// Refuses a text whose first bytes are the byte order mark of UTF-16, as Excel's "Unicode text" has
/// it.
///
/// - line: of the file, from 1, that `content` is the beginning of
pub(crate) fn require_utf8(content: &[u8], line: usize, file: &Path) -> Result<(), DataError> {
    let is_utf16 = content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff");
    match line == 1 && is_utf16 {
        true => Err(DataError::Utf16 {
            path: file.to_path_buf(),
        }),
        false => Ok(()),
    }
}

fn row(
    columns: &Map<String, Value>,
    place: Place,
    config: &DataConfig,
    labels: LabelPolicy,
) -> Result<Row, DataError> {
    let text = string(columns, "data.text", &config.text, &place)?;
    let text_pair = config
        .text_pair
        .as_ref()
        .map(|column| string(columns, "data.text_pair", column, &place))
        .transpose()?;
    let label = label(columns, &config.label, labels, &place)?;
    let label = in_a_list(label, config, labels, &place)?;
    Ok(Row {
        text,
        text_pair,
        label,
        place,
    })
}

/// The string that a column holds.
pub(crate) fn string(
    columns: &Map<String, Value>,
    setting: &str,
    column: &str,
    place: &Place,
) -> Result<String, DataError> {
    match required(columns, setting, column, place)? {
        Value::String(text) => Ok(text.clone()),
        other => Err(DataError::BadValue {
            place: place.clone(),
            column: column.to_owned(),
            expected: "a string",
            found: kind(other).to_owned(),
        }),
    }
}

/// What a column holds, whatever its type.
pub(crate) fn required<'a>(
    columns: &'a Map<String, Value>,
    setting: &str,
    column: &str,
    place: &Place,
) -> Result<&'a Value, DataError> {
    columns
        .get(column)
        .ok_or_else(|| missing(columns, setting, column, place))
}

fn label(
    columns: &Map<String, Value>,
    column: &str,
    labels: LabelPolicy,
    place: &Place,
) -> Result<Option<RawLabel>, DataError> {
    match columns.get(column) {
        Some(Value::Array(_)) if labels == LabelPolicy::Required => Err(DataError::ListOfLabels {
            place: place.clone(),
            column: column.to_owned(),
        }),
        Some(Value::Array(items)) => {
            let items = items.iter().map(|item| one_label(item, column, place));
            items
                .collect::<Result<_, _>>()
                .map(RawLabel::List)
                .map(Some)
        }
        Some(Value::Null) | None if !labels.is_required() => Ok(None),
        Some(Value::Null) if labels == LabelPolicy::Lists => Err(DataError::MissingList {
            place: place.clone(),
        }),
        Some(Value::Null) => Err(DataError::MissingLabel {
            place: place.clone(),
        }),
        None => Err(missing(columns, "data.label", column, place)),
        Some(value) => one_label(value, column, place).map(Some),
    }
}

fn one_label(value: &Value, column: &str, place: &Place) -> Result<RawLabel, DataError> {
    let bad_value = |found: String| DataError::BadValue {
        place: place.clone(),
        column: column.to_owned(),
        expected: "a string, a number or a boolean",
        found,
    };
    match value {
        Value::String(text) => Ok(RawLabel::Text(text.clone())),
        Value::Bool(flag) => Ok(RawLabel::Integer(i64::from(*flag))),
        // Beyond i64 a float would be another number; as a name it stays what it is.
        Value::Number(number) if number.as_i64().is_none() && number.is_u64() => {
            Ok(RawLabel::Text(number.to_string()))
        }
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Ok(RawLabel::Integer(integer)),
            (None, Some(number)) => Ok(RawLabel::Number(number)),
            (None, None) => Err(bad_value(number.to_string())),
        },
        other => Err(bad_value(kind(other).to_owned())),
    }
}

fn missing(columns: &Map<String, Value>, setting: &str, column: &str, place: &Place) -> DataError {
    let found = columns.keys().map(String::as_str);
    DataError::missing_column(place.clone(), setting, column, found)
}

/// The JSON type of a value, with its article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8], labels: LabelPolicy) -> Result<Vec<Row>, DataError> {
        let file: Arc<Path> = Path::new("train.jsonl").into();
        read_jsonl(content, &file, &DataConfig::new("unused"), labels)
    }

    fn error(content: &str) -> String {
        read(content.as_bytes(), LabelPolicy::Required)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn labels_keep_the_type_they_have_in_the_file() {
        let content = "\u{feff}{\"text\": \"a\", \"label\": \"x\"}\r\n\
                       \n\
                       {\"label\": 4, \"text\": \"b\", \"idx\": 9}\n\
                       {\"text\": \"c\", \"label\": 2.5}\n\
                       {\"text\": \"d\", \"label\": true}";
        let rows = read(content.as_bytes(), LabelPolicy::Required).unwrap();
        let labels: Vec<RawLabel> = rows.iter().map(|row| row.label.clone().unwrap()).collect();
        assert_eq!(
            labels,
            [
                RawLabel::Text("x".to_owned()),
                RawLabel::Integer(4),
                RawLabel::Number(2.5),
                RawLabel::Integer(1),
            ]
        );
        let lines: Vec<usize> = rows.iter().map(|row| row.place.line).collect();
        assert_eq!(lines, [1, 3, 4, 5], "blank lines count");
    }

    #[test]
    fn an_integer_label_beyond_64_bits_with_a_sign_keeps_its_digits() {
        let content = b"{\"text\": \"a\", \"label\": 9223372036854775808}";
        let rows = read(content, LabelPolicy::Required).unwrap();
        let expected = RawLabel::Text("9223372036854775808".to_owned());
        assert_eq!(rows[0].label, Some(expected));
    }

    #[test]
    fn an_array_of_objects_is_read_as_its_rows_where_the_file_is_json() {
        let file: Arc<Path> = Path::new("train.json").into();
        let read = |content: &str| {
            let config = DataConfig::new("unused");
            read_jsonl(content.as_bytes(), &file, &config, LabelPolicy::Required)
                .map_err(|error| error.to_string())
        };
        let objects = r#"{"text": "a", "label": 1},
                         {"text": "b", "label": 2}"#;
        let rows = read(&format!("\u{feff}[\n{objects}\n]\n")).unwrap();
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        assert_eq!((texts, rows[1].place.line), (vec!["a", "b"], 2));
        let lines = objects.replace("},", "}");
        assert_eq!(read(&lines).unwrap().len(), 2);
        let message = read(&format!("[{objects}, 7]")).unwrap_err();
        let expected = "train.json:3: expected a JSON object, found a number";
        assert!(message.starts_with(expected), "{message}");
        let message = read("[{\"text\": ").unwrap_err();
        assert!(
            message.contains("`train.json` is not the JSON expected"),
            "{message}"
        );
    }

    #[test]
    fn utf_16_is_refused_with_the_remedy() {
        let error = read(b"\xff\xfe{\0", LabelPolicy::Required)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("UTF-16") && error.contains("UTF-8"),
            "{error}"
        );
    }

    #[test]
    fn a_pair_is_read_from_the_columns_named() {
        let config = DataConfig {
            text: "premise".to_owned(),
            text_pair: Some("hypothesis".to_owned()),
            ..DataConfig::new("unused")
        };
        let content = r#"{"premise": "it rains", "hypothesis": "it is wet", "label": 0}"#;
        let file: Arc<Path> = Path::new("train.jsonl").into();
        let rows = read_jsonl(content.as_bytes(), &file, &config, LabelPolicy::Required).unwrap();
        assert_eq!(rows[0].text, "it rains");
        assert_eq!(rows[0].text_pair.as_deref(), Some("it is wet"));
    }

    #[test]
    fn malformed_json_names_its_line() {
        let message = error("{\"text\": \"a\", \"label\": 1}\n{\"text\": \"b\",\n");
        assert!(
            message.starts_with("train.jsonl:2: not valid JSON"),
            "{message}"
        );
    }

    #[test]
    fn bytes_that_are_not_utf_8_name_their_line() {
        let error = read(b"{\"text\": \"caf\xe9\"}", LabelPolicy::Optional).unwrap_err();
        assert!(error.to_string().starts_with("train.jsonl:1: "), "{error}");
    }

    #[test]
    fn a_line_that_is_no_object_is_refused() {
        let message = error("[{\"text\": \"a\", \"label\": 1}]");
        assert!(
            message.contains("expected a JSON object, found an array"),
            "{message}"
        );
    }

    #[test]
    fn a_missing_column_names_file_line_wanted_and_found() {
        let message = error("{\"text\": \"a\", \"label\": 1}\n{\"Text\": \"b\", \"label\": 1}");
        assert_eq!(
            message,
            "train.jsonl:2: there is no column `text`; found `Text`, `label`; did you mean \
             `Text`? Set `data.text`"
        );
    }

    #[test]
    fn a_text_that_is_no_string_is_refused() {
        let message = error("{\"text\": 3, \"label\": 1}");
        assert!(
            message.contains("column `text`: expected a string, found a number"),
            "{message}"
        );
    }

    #[test]
    fn labels_may_be_absent_only_when_allowed() {
        let content = "{\"text\": \"a\", \"label\": null}\n{\"text\": \"b\"}";
        let rows = read(content.as_bytes(), LabelPolicy::Optional).unwrap();
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row.label.is_none()));

        assert!(error(content).contains("train.jsonl:1: the row has no label"));
        assert!(error("{\"text\": \"b\"}").contains("there is no column `label`"));
        assert!(error("{\"text\": \"b\", \"label\": {}}").contains("found an object"));
    }

    #[test]
    fn lists_of_labels_are_read_where_rows_may_have_several_and_refused_elsewhere() {
        let content =
            b"{\"text\": \"a\", \"label\": [\"x\", 3]}\n{\"text\": \"b\", \"label\": []}\n\
                        {\"text\": \"c\", \"label\": \"y|x\"}";
        let rows = read(content, LabelPolicy::Lists).unwrap();
        let labels = rows
            .iter()
            .map(|row| row.label.as_ref().unwrap().to_string());
        assert_eq!(labels.collect::<Vec<_>>(), ["[x, 3]", "[]", "[y, x]"]);

        let message = error("{\"text\": \"b\", \"label\": [1]}");
        assert!(
            message.contains("train.jsonl:1: column `label` has a list of labels")
                && message.contains("task.target = \"labels\""),
            "{message}"
        );
        let refused = |content: &str| {
            let error = read(content.as_bytes(), LabelPolicy::Lists).unwrap_err();
            error.to_string()
        };
        let message = refused("{\"text\": \"b\", \"label\": null}");
        assert!(message.contains("write an empty list"), "{message}");
        let message = refused("{\"text\": \"b\", \"label\": [[1]]}");
        assert!(message.contains("found an array"), "{message}");
    }
}
