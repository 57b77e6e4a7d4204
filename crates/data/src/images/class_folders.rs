//! Images whose label is the name of their folder, the layout that torchvision made usual.

use std::path::Path;

use super::image_files::{is_image, listed_endings, visible};
use super::image_row::{ImageRow, ImageSource};
use crate::error::{DataError, quoted};
use crate::row::{LabelPolicy, Place, RawLabel};

/// Reads `CLASS/image.jpg` under a directory, in the order of the names.
///
/// Images in no class are rows without a label where that is allowed. Whatever else is left out goes
/// into `notes`; names that begin with a dot do not count.
///
/// # Errors
/// When a directory cannot be read.
pub(super) fn read_class_folders(
    dir: &Path,
    labels: LabelPolicy,
    notes: &mut Vec<String>,
) -> Result<Vec<ImageRow>, DataError> {
    let mut rows = Vec::new();
    let mut left_out = Vec::new();
    for name in visible(dir)? {
        let Some(class) = name.strip_suffix('/') else {
            if labels == LabelPolicy::Optional && is_image(&name) {
                rows.push(row(dir, &name, None));
            } else {
                left_out.push(name);
            }
            continue;
        };
        let folder = dir.join(class);
        let before = rows.len();
        for file in visible(&folder)? {
            if is_image(&file) {
                rows.push(row(&folder, &file, Some(class)));
            } else {
                left_out.push(format!("{name}{file}"));
            }
        }
        if rows.len() == before {
            notes.push(format!("`{}` has no images", folder.display()));
        }
    }
    if !left_out.is_empty() {
        notes.push(format!(
            "`{}`: {} left out, expected CLASS/NAME with one of {}: {}",
            dir.display(),
            left_out.len(),
            listed_endings(),
            quoted(&left_out),
        ));
    }
    Ok(rows)
}

fn row(folder: &Path, name: &str, class: Option<&str>) -> ImageRow {
    let path = folder.join(name);
    ImageRow {
        place: Place {
            file: path.as_path().into(),
            line: 0,
        },
        source: ImageSource::File(path),
        label: class.map(|class| RawLabel::Text(class.to_owned())),
    }
}
