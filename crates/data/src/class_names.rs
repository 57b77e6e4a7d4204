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
        let names = content["info"]["features"][column]["names"].as_array();
        let names = names.and_then(|names| {
            let names = names.iter().map(|name| name.as_str().map(str::to_owned));
            names.collect::<Option<Vec<String>>>()
        });
        Ok(names.map(Self))
    }

    /// A label with the name of its number; what is no number stays as it is.
    ///
    /// −1, by which datasets say that they keep a label to themselves, has no name: where labels may
    /// be absent it is none, else it stays for whoever sees the whole split.
    ///
    /// # Errors
    /// When there are fewer names.
    pub(crate) fn name(
        &self,
        label: RawLabel,
        column: &str,
        place: &Place,
        policy: LabelPolicy,
    ) -> Result<Option<RawLabel>, DataError> {
        let Some(number) = label.whole_number() else {
            return Ok(Some(label));
        };
        if self.0.contains(&label.to_string()) {
            return Ok(Some(label));
        }
        if number == -1 {
            return Ok((policy == LabelPolicy::Required).then_some(label));
        }
        let name = usize::try_from(number)
            .ok()
            .and_then(|index| self.0.get(index))
            .ok_or_else(|| DataError::BadValue {
                place: place.clone(),
                column: column.to_owned(),
                expected: "the number of one of the classes that the file or the dataset's card \
                           names",
                found: format!("{number} of {} classes", self.0.len()),
            })?;
        Ok(Some(RawLabel::Class {
            name: name.clone(),
            number,
        }))
    }
}

/// Checks that every row of a file with named classes has a label, unless all are −1: that is a split
/// whose labels are kept secret, which its reader has to know of.
///
/// # Errors
/// When a row has none, or −1 beside rows that have one.
pub(crate) fn require_labels<R: Labelled>(rows: &[R]) -> Result<(), DataError> {
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
