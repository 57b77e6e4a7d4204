//! Names of files in a repository, which its owner chooses.

use std::path::{Component, Path};

use crate::HubId;
use crate::error::HubError;

/// Refuses a name that would lead out of the repository's directory: it may come from an index file
/// in the repository itself.
pub(crate) fn check_file_name(id: &HubId, name: &str) -> Result<(), HubError> {
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let stays_inside = name.split('/').all(is_plain)
        && !name.contains('\\')
        && !name.contains('\0')
        && Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    if stays_inside {
        return Ok(());
    }
    Err(HubError::UnsafeFileName {
        id: id.to_string(),
        name: name.to_owned(),
    })
}
