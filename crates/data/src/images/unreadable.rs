//! What a run does about files that do not decode: a scraped dataset always has some.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::image_row::ImageRow;
use crate::error::DataError;

/// What becomes of images that cannot be read or decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unreadable {
    /// The first that is met ends the run.
    #[default]
    Error,
    /// All are decoded once before the run, and those that cannot be are left out.
    Skip,
}

/// What is wrong with each image that does not decode, by its index.
pub fn undecodable(rows: &[ImageRow]) -> Vec<(usize, DataError)> {
    // Pixels are dropped at once; only what went wrong stays.
    let problem = |(index, row): (usize, &ImageRow)| Some((index, row.decode().err()?));
    rows.par_iter().enumerate().filter_map(problem).collect()
}

/// The rows whose images decode, and a note about the others if there are any.
///
/// - image: that of a row
///
/// # Errors
/// When not one image decodes: that of the first.
pub(crate) fn leave_out_unreadable<R: Sync>(
    rows: Vec<R>,
    image: impl Fn(&R) -> &ImageRow + Sync,
) -> Result<(Vec<R>, Option<String>), DataError> {
    const NAMED: usize = 5;
    let found = rows.len();
    // Pixels are dropped at once; only what went wrong stays.
    let problem = |row: &R| image(row).decode().err();
    let problems: Vec<Option<DataError>> = rows.par_iter().map(problem).collect();
    let mut kept = Vec::with_capacity(found);
    let mut left_out = Vec::new();
    let mut first = None;
    for (row, problem) in rows.into_iter().zip(problems) {
        match problem {
            None => kept.push(row),
            Some(problem) => {
                left_out.push(image(&row).place.to_string());
                first.get_or_insert(problem);
            }
        }
    }
    let Some(first) = first else {
        return Ok((kept, None));
    };
    if kept.is_empty() {
        return Err(first);
    }
    let mut named = left_out[..left_out.len().min(NAMED)].join(", ");
    if left_out.len() > NAMED {
        named = format!("{named} and {} more", left_out.len() - NAMED);
    }
    let count = left_out.len();
    let note = format!("{count} of {found} images cannot be read and are left out: {named}");
    Ok((kept, Some(note)))
}
