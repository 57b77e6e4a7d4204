//! The names of a Hub dataset's classes, whose rows have numbers only: in the metadata of its parquet
//! files, or in the head of its card.

use std::path::Path;

use ::parquet::file::metadata::FileMetaData;
use serde_json::Value;

use crate::error::DataError;
use crate::labelled::Labelled;
use crate::row::{LabelPolicy, Place, RawLabel};

/// The names of a dataset's classes, in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClassNames(Vec<String>);

impl ClassNames {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// From `info.features.COLUMN.names` of the key `huggingface`; `None` where there is no such list.
    ///
    /// # Errors
    /// When the key's value is not JSON.
    pub(crate) fn find(
        metadata: &FileMetaData,
        column: &str,
        path: &Path,
    ) -> Result<Option<Self>, DataError> {
        let entries = metadata.key_value_metadata();
        let entry =
            entries.and_then(|entries| entries.iter().find(|entry| entry.key == "huggingface"));
        let Some(content) = entry.and_then(|entry| entry.value.as_deref()) else {
            return Ok(None);
        };
        let content: Value =
            serde_json::from_str(content).map_err(|source| DataError::MalformedJson {
                path: path.to_owned(),
                source,
            })?;
        let feature = &content["info"]["features"][column];
        // Of a list of labels, in the three spellings that `datasets` has had.
        let features = [feature, &feature["feature"], &feature[0]];
        let names = features
            .into_iter()
            .find_map(|feature| feature["names"].as_array());
        let names = names.and_then(|names| {
            let names = names.iter().map(|name| name.as_str().map(str::to_owned));
            names.collect::<Option<Vec<String>>>()
        });
        Ok(names.map(Self))
    }

    /// Gives every label that is a number the name of its class, in all rows of a split or a file.
    ///
    /// An integer or a float is always a number. A text may be either where classes are called `1`,
    /// `2`, …, which a table without types leaves open: texts are names if all of them are among the
    /// names, else those that are whole numbers count classes. −1, by which datasets say that they
    /// keep a label to themselves, has no name: where labels may be absent it is none, else it stays
    /// for whoever sees the whole split.
    ///
    /// # Errors
    /// When there are fewer names than a number says, or labels are required and a row has none,
    /// unless all are −1.
    pub(crate) fn name_all<R: Labelled>(
        &self,
        rows: &mut [R],
        column: &str,
        policy: LabelPolicy,
    ) -> Result<(), DataError> {
        let is_name_or_hidden = |label: &RawLabel| match label {
            RawLabel::Text(text) => self.has(text) || label.whole_number() == Some(-1),
            _ => true,
        };
        let labels = rows.iter().filter_map(R::label);
        let texts_are_names = labels.flat_map(items).all(is_name_or_hidden);
        let named = |label: &RawLabel, place: &Place| {
            let is_name =
                matches!(label, RawLabel::Text(text) if texts_are_names && self.has(text));
            Ok::<_, DataError>(match label.whole_number().filter(|_| !is_name) {
                None => Some(label.clone()),
                Some(-1) => None,
                Some(number) => Some(RawLabel::Class {
                    name: self.name(number, column, place)?,
                    number,
                }),
            })
        };
        for row in rows.iter_mut() {
            let Some(label) = row.label() else { continue };
            let label = match label {
                RawLabel::List(items) => {
                    let item = |item| Ok(named(item, row.place())?.unwrap_or_else(|| item.clone()));
                    let items = items.iter().map(item);
                    Some(RawLabel::List(items.collect::<Result<_, DataError>>()?))
                }
                label => match named(label, row.place())? {
                    None if policy != LabelPolicy::Optional => continue,
                    label => label,
                },
            };
            row.set_label(label);
        }
        match policy {
            LabelPolicy::Required => require_labels(rows),
            // Readers have checked that every row has a list.
            LabelPolicy::Lists | LabelPolicy::Optional => Ok(()),
        }
    }

    fn has(&self, text: &str) -> bool {
        self.0
            .iter()
            .any(|name| name == text || name == text.trim())
    }

    fn name(&self, number: i64, column: &str, place: &Place) -> Result<String, DataError> {
        let index = usize::try_from(number).ok();
        let name = index.and_then(|index| self.0.get(index));
        name.cloned().ok_or_else(|| DataError::BadValue {
            place: place.clone(),
            column: column.to_owned(),
            expected: "the number of one of the classes that the file or the dataset's card names",
            found: format!("{number} of {} classes", self.0.len()),
        })
    }
}

/// The labels of a row: the items of a list, or the only one.
fn items(label: &RawLabel) -> &[RawLabel] {
    match label {
        RawLabel::List(items) => items,
        single => std::slice::from_ref(single),
    }
}

/// Checks that every row of a file with named classes has a label, unless all are −1: that is a split
/// whose labels are kept secret, which its reader has to know of.
///
/// # Errors
/// When a row has none, or −1 beside rows that have one.
fn require_labels<R: Labelled>(rows: &[R]) -> Result<(), DataError> {
    let number = |row: &R| row.label().and_then(RawLabel::whole_number);
    if rows.iter().all(|row| number(row) == Some(-1)) {
        return Ok(());
    }
    let missing = |row: &&R| row.label().is_none() || number(row) == Some(-1);
    match rows.iter().find(missing) {
        Some(row) => Err(DataError::MissingLabel {
            place: row.place().clone(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Row;

    /// The labels after classes called `1`, `2` and `3` have been given their names.
    fn named(labels: Vec<RawLabel>, policy: LabelPolicy) -> Vec<Option<String>> {
        let names = ClassNames::new(["1", "2", "3"].map(str::to_owned).to_vec());
        let row = |label| Row {
            text: "text".to_owned(),
            text_pair: None,
            label: Some(label),
            place: Place {
                file: Path::new("train.csv").into(),
                line: 1,
            },
        };
        let mut rows: Vec<Row> = labels.into_iter().map(row).collect();
        names.name_all(&mut rows, "label", policy).unwrap();
        let labels = rows.into_iter().map(|row| row.label);
        labels
            .map(|label| label.map(|label| label.to_string()))
            .collect()
    }

    fn words(words: &[&str]) -> Vec<Option<String>> {
        words.iter().map(|word| Some((*word).to_owned())).collect()
    }

    #[test]
    fn integers_and_floats_count_classes_even_where_these_are_called_by_numerals() {
        let integers = [0, 1, 2].map(RawLabel::Integer).to_vec();
        let floats = [0.0, 1.0, 2.0].map(RawLabel::Number).to_vec();
        for labels in [integers, floats] {
            assert_eq!(
                named(labels, LabelPolicy::Required),
                words(&["1", "2", "3"])
            );
        }
    }

    #[test]
    fn texts_are_names_where_all_of_them_are_among_the_names() {
        let texts = |texts: &[&str]| {
            let labels = texts.iter().map(|text| RawLabel::Text((*text).to_owned()));
            named(labels.collect(), LabelPolicy::Optional)
        };
        assert_eq!(texts(&["1", "3", "2"]), words(&["1", "3", "2"]));
        assert_eq!(texts(&["1", "0", "2"]), words(&["2", "1", "3"]));
        assert_eq!(texts(&["3", "-1"]), [Some("3".to_owned()), None]);
    }

    #[test]
    fn numbers_in_lists_count_classes_too() {
        let lists = [vec![2, 0], vec![]].map(|numbers: Vec<i64>| {
            RawLabel::List(numbers.into_iter().map(RawLabel::Integer).collect())
        });
        let found = named(lists.to_vec(), LabelPolicy::Lists);
        assert_eq!(found, words(&["[3, 1]", "[]"]));
    }
}
