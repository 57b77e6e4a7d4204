//! Which columns of a table have the images and their captions, and what the cells say.

use serde_json::{Map, Value};

use super::captioned_image::Unmeasured;
use super::error::DiffusionDataError;
use crate::config::DataConfig;
use crate::error::{DataError, quoted};
use crate::images::ImageRow;
use crate::jsonl::{kind, required};
use crate::row::Place;
use crate::row_images::image_of;

/// The column of an image's path in the metadata of a folder, as the Hub names it.
const FILE_NAME: &str = "file_name";
/// The usual columns of captions.
const CAPTIONS: [&str; 3] = ["text", "caption", "captions"];

/// The columns that are read.
pub(super) struct CaptionColumns {
    image: String,
    /// None where all images have the same prompt.
    caption: Option<String>,
}

impl CaptionColumns {
    /// - found: the columns of a table
    /// - prompt: that of all images, if captions are not read
    ///
    /// # Errors
    /// When there are none of images or captions, or several may be of captions.
    pub fn find(
        found: &[&str],
        config: &DataConfig,
        prompt: Option<&str>,
        place: &Place,
    ) -> Result<Self, DataError> {
        let missing = |setting: &str, column: &str| {
            let found = found.iter().copied();
            DataError::missing_column(place.clone(), setting, column, found)
        };
        let usual = DataConfig::new("").image;
        let image = match config.image.as_str() {
            named if found.contains(&named) => named,
            named if named == usual && found.contains(&FILE_NAME) => FILE_NAME,
            named => return Err(missing("data.image", named)),
        };
        let caption = match (prompt, &config.caption) {
            (Some(_), _) => None,
            (None, Some(named)) if found.contains(&named.as_str()) => Some(named.as_str()),
            (None, Some(named)) => return Err(missing("data.caption", named)),
            (None, None) => {
                let usual = CAPTIONS.into_iter();
                let usual: Vec<&str> = usual.filter(|name| found.contains(name)).collect();
                match usual.as_slice() {
                    [] => return Err(missing("data.caption", CAPTIONS[0])),
                    [only] => Some(*only),
                    several => {
                        return Err(DiffusionDataError::SeveralCaptions {
                            place: place.clone(),
                            columns: quoted(several),
                        }
                        .into());
                    }
                }
            }
        };
        Ok(Self {
            image: image.to_owned(),
            caption: caption.map(str::to_owned),
        })
    }

    /// Whether a column is read.
    pub fn reads(&self, column: &str) -> bool {
        self.image == column || self.caption.as_deref() == Some(column)
    }

    /// The column of captions, if they are read.
    pub fn caption(&self) -> Option<&str> {
        self.caption.as_deref()
    }

    /// The image of a row with its captions, or with the prompt of all.
    ///
    /// # Errors
    /// When either is missing, empty, or something else.
    pub fn row(
        &self,
        columns: &Map<String, Value>,
        prompt: Option<&str>,
        place: Place,
    ) -> Result<Unmeasured, DataError> {
        let image = required(columns, "data.image", &self.image, &place)?;
        let source = image_of(image, &self.image, &place)?;
        let captions = match &self.caption {
            Some(column) => {
                let cell = required(columns, "data.caption", column, &place)?;
                captions(cell, column, &place)?
            }
            None => prompt.map(str::to_owned).into_iter().collect(),
        };
        let image = ImageRow {
            source,
            label: None,
            place,
        };
        Ok((image, captions))
    }
}

/// One caption, or a list of them.
fn captions(cell: &Value, column: &str, place: &Place) -> Result<Vec<String>, DataError> {
    let items: &[Value] = match cell {
        Value::Null => &[],
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    if items.is_empty() {
        return Err(DiffusionDataError::NoCaption {
            place: place.clone(),
            column: column.to_owned(),
        }
        .into());
    }
    let caption = |item: &Value| match item {
        Value::String(text) if text.trim().is_empty() => Err(DiffusionDataError::EmptyCaption {
            place: place.clone(),
            column: column.to_owned(),
        }
        .into()),
        Value::String(text) => Ok(text.clone()),
        other => Err(DataError::BadValue {
            place: place.clone(),
            column: column.to_owned(),
            expected: "a text or a list of texts",
            found: kind(other).to_owned(),
        }),
    };
    items.iter().map(caption).collect()
}
