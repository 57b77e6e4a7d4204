//! Which files in a folder are images: those whose names end so.

use std::path::Path;

use crate::error::DataError;
use crate::split::list_dir;

/// How the names of images end.
const ENDINGS: [&str; 8] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp"];

/// The endings, for messages.
pub(crate) fn listed_endings() -> String {
    ENDINGS.map(|ending| format!(".{ending}")).join(", ")
}

/// The names in a folder, sorted, but for those that begin with a dot; a folder's ends in `/`.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn visible(dir: &Path) -> Result<impl Iterator<Item = String>, DataError> {
    let names = list_dir(dir)?;
    Ok(names.into_iter().filter(|name| !name.starts_with('.')))
}

/// Whether a name ends as those of images do.
pub(crate) fn is_image(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| {
        let ending = ending.to_lowercase();
        ENDINGS.contains(&ending.as_str())
    })
}
