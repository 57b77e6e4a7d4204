//! The names of classes in the metadata of a Hub dataset's parquet files, whose rows have numbers
//! only.

use std::path::Path;

use ::parquet::file::metadata::FileMetaData;
use serde_json::Value;

use crate::error::DataError;
use crate::row::{Place, RawLabel};

/// The names of a Hub dataset's classes, which its parquet files keep apart from the numbers.
#[derive(Debug)]
pub(super) struct ClassNames(Vec<String>);

impl ClassNames {
    /// From `info.features.COLUMN.names` of the key `huggingface`; `None` where there is no such list.
    ///
    /// # Errors
    /// When the key's value is not JSON.
    pub(super) fn find(
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

    /// The name of a number; −1, by which datasets say that they keep a label to themselves, is none.
    ///
    /// # Errors
    /// When there are fewer names.
    pub(super) fn name(
        &self,
        label: RawLabel,
        column: &str,
        place: &Place,
    ) -> Result<Option<RawLabel>, DataError> {
        let RawLabel::Integer(number) = label else {
            return Ok(Some(label));
        };
        if number == -1 {
            return Ok(None);
        }
        let name = usize::try_from(number)
            .ok()
            .and_then(|index| self.0.get(index))
            .ok_or_else(|| DataError::BadValue {
                place: place.clone(),
                column: column.to_owned(),
                expected: "the number of one of the classes that the file names",
                found: format!("{number} of {} classes", self.0.len()),
            })?;
        Ok(Some(RawLabel::Text(name.clone())))
    }
}
