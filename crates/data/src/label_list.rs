//! The labels of rows that may have several: lists, or texts with a separator.

use std::collections::BTreeSet;

use crate::config::DataConfig;
use crate::error::DataError;
use crate::labelled::Labelled;
use crate::labels::{LabelMap, class_name_of, label_of};
use crate::row::{LabelPolicy, Place, RawLabel};

/// The labels of a row where `labels` asks for lists: a list as it is, the parts of a text between the
/// separators, anything else as the only one. With another policy the label stays as it is.
///
/// # Errors
/// When a text is the spelling of a list, as pandas writes one into a cell.
pub(crate) fn in_a_list(
    label: Option<RawLabel>,
    config: &DataConfig,
    labels: LabelPolicy,
    place: &Place,
) -> Result<Option<RawLabel>, DataError> {
    if labels != LabelPolicy::Lists {
        return Ok(label);
    }
    Ok(match label {
        None => None,
        Some(RawLabel::List(items)) => Some(RawLabel::List(items)),
        Some(RawLabel::Text(text)) => {
            let trimmed = text.trim();
            if trimmed.starts_with('[') && trimmed.ends_with(']') {
                return Err(DataError::SpeltList {
                    place: place.clone(),
                    column: config.label.clone(),
                    separator: config.label_separator.clone(),
                    found: text,
                });
            }
            Some(RawLabel::List(parts(trimmed, &config.label_separator)))
        }
        Some(single) => Some(RawLabel::List(vec![single])),
    })
}

/// The parts of a text that are not blank.
fn parts(text: &str, separator: &str) -> Vec<RawLabel> {
    let parts = text.split(separator).map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(|part| RawLabel::Text(part.to_owned()))
        .collect()
}

/// A note where the separator seems to be another: none of the labels has it, but some have one that
/// files often use.
pub fn note_on_separator<R: Labelled>(rows: &[R], separator: &str) -> Option<String> {
    let count = |sign: &str| {
        let has = |row: &&R| match row.label() {
            Some(RawLabel::List(items)) => match &items[..] {
                [RawLabel::Text(text)] => text.contains(sign),
                _ => false,
            },
            _ => false,
        };
        rows.iter().filter(has).count()
    };
    let is_single = |row: &R| match row.label() {
        Some(RawLabel::List(items)) => items.len() < 2,
        _ => true,
    };
    if !rows.iter().all(is_single) {
        return None;
    }
    let (sign, rows_with) = ["|", ";", ","]
        .into_iter()
        .filter(|sign| *sign != separator)
        .map(|sign| (sign, count(sign)))
        .find(|(_, rows)| *rows > 0)?;
    Some(format!(
        "no row has several labels with data.label_separator = {separator:?} between them, but {rows_with} \
         of {} have {sign:?} in theirs; if it separates labels, set data.label_separator = {sign:?}",
        rows.len()
    ))
}

/// The items of a row's list.
///
/// # Errors
/// When the row has no label.
fn items_of(row: &impl Labelled) -> Result<&[RawLabel], DataError> {
    Ok(match label_of(row)? {
        RawLabel::List(items) => items,
        single => std::slice::from_ref(single),
    })
}

impl LabelMap {
    /// The labels that occur in the lists of training data, in the order of
    /// [`LabelMap::from_train`].
    ///
    /// # Errors
    /// When a row has no list, an item names no class, or every list is empty.
    pub fn from_lists<R: Labelled>(rows: &[R]) -> Result<Self, DataError> {
        let mut names = BTreeSet::new();
        for row in rows {
            for item in items_of(row)? {
                names.insert(class_name_of(item, row.place())?);
            }
        }
        match names.is_empty() {
            true => Err(DataError::OnlyEmptyLists),
            false => Self::in_order(names),
        }
    }

    /// The outputs that stand for the labels of a row, ascending; none for an empty list.
    ///
    /// # Errors
    /// When the row has no list, or an item is unknown or occurs twice.
    pub fn encode_list(&self, row: &impl Labelled) -> Result<Vec<usize>, DataError> {
        let mut outputs = BTreeSet::new();
        for item in items_of(row)? {
            let output = self.known_output(item, row.place())?;
            if !outputs.insert(output) {
                return Err(DataError::RepeatedLabel {
                    place: row.place().clone(),
                    label: item.to_string(),
                });
            }
        }
        Ok(outputs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Row;

    fn row(label: RawLabel) -> Row {
        Row {
            text: "text".to_owned(),
            text_pair: None,
            label: Some(label),
            place: place(),
        }
    }

    fn place() -> Place {
        Place {
            file: Path::new("train.csv").into(),
            line: 3,
        }
    }

    fn words(words: &[&str]) -> RawLabel {
        let words = words.iter().map(|word| RawLabel::Text((*word).to_owned()));
        RawLabel::List(words.collect())
    }

    fn split(text: &str, separator: &str) -> Result<Option<RawLabel>, DataError> {
        let config = DataConfig {
            label_separator: separator.to_owned(),
            ..DataConfig::new("unused")
        };
        let label = Some(RawLabel::Text(text.to_owned()));
        in_a_list(label, &config, LabelPolicy::Lists, &place())
    }

    #[test]
    fn a_text_is_split_at_the_separator_and_blank_parts_are_no_labels() {
        assert_eq!(split("a | c d|", "|").unwrap(), Some(words(&["a", "c d"])));
        assert_eq!(split("a;b", ";").unwrap(), Some(words(&["a", "b"])));
        assert_eq!(split(" ", "|").unwrap(), Some(words(&[])));
        let error = split("['a', 'b']", "|").unwrap_err().to_string();
        assert!(
            error.contains("`['a', 'b']`") && error.contains("a|b"),
            "{error}"
        );
    }

    #[test]
    fn lists_give_the_union_of_their_labels_in_the_usual_order() {
        let rows = [
            row(words(&["pear", " fig"])),
            row(words(&[])),
            row(words(&["apple", "fig"])),
        ];
        let labels = LabelMap::from_lists(&rows).unwrap();
        assert_eq!(labels.names(), ["apple", "fig", "pear"]);
        let encoded: Vec<Vec<usize>> = rows
            .iter()
            .map(|row| labels.encode_list(row).unwrap())
            .collect();
        assert_eq!(encoded, [vec![1, 2], vec![], vec![0, 1]]);
        let numbers = [10, 9, 2].map(RawLabel::Integer).to_vec();
        let labels = LabelMap::from_lists(&[row(RawLabel::List(numbers))]).unwrap();
        assert_eq!(labels.names(), ["2", "9", "10"]);
        assert!(LabelMap::from_lists(&[row(words(&[]))]).is_err());
    }

    #[test]
    fn a_label_that_is_unknown_or_occurs_twice_is_named() {
        let labels = LabelMap::from_lists(&[row(words(&["a", "b"]))]).unwrap();
        let error = |label| labels.encode_list(&row(label)).unwrap_err().to_string();
        let unknown = error(words(&["a", "z"]));
        assert!(
            unknown.starts_with("train.csv:3: unknown label `z`"),
            "{unknown}"
        );
        // A vector of zeros and ones, as other programs write the same.
        let vector = RawLabel::List([0, 1, 1].map(RawLabel::Integer).to_vec());
        let vectors = LabelMap::from_lists(&[row(vector.clone())]).unwrap();
        let twice = vectors.encode_list(&row(vector)).unwrap_err().to_string();
        assert!(
            twice.contains("`1` twice") && twice.contains("zeros and ones"),
            "{twice}"
        );
    }

    #[test]
    fn another_separator_that_the_labels_seem_to_have_is_told() {
        let rows = [row(words(&["a;b"])), row(words(&["c"]))];
        let note = note_on_separator(&rows, "|").unwrap();
        assert!(
            note.contains("1 of 2 have \";\"") && note.contains("label_separator = \";\""),
            "{note}"
        );
        let with_lists = [row(words(&["a;b"])), row(words(&["c", "d"]))];
        assert_eq!(note_on_separator(&with_lists, "|"), None);
        assert_eq!(note_on_separator(&[row(words(&["a"]))], "|"), None);
    }
}
