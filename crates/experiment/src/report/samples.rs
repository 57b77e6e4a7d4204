//! The images that the arms of an experiment made on the way, side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use eigenmix_charts::{ImageGrid, ImageRow, Page};
use eigenmix_images::{Filter, RgbImage, decode, encode_png, resize};
use eigenmix_tensors::FileError;
use eigenmix_trainer::Run;
use serde::{Deserialize, Serialize};

use super::Report;

/// The longer side of an image in the page.
const SIDE: usize = 160;
/// How many steps are shown at most.
const STEPS: usize = 7;

/// The images that an arm's first seed made, by step and then by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SampleImages(BTreeMap<usize, BTreeMap<String, PathBuf>>);

impl SampleImages {
    /// Those of a run; empty if it made none.
    ///
    /// # Errors
    /// If its directories cannot be read.
    pub(super) fn read(run: &Path) -> Result<Self, FileError> {
        let mut steps = BTreeMap::new();
        for (step, directory) in Run::at(run).samples()? {
            let entries =
                std::fs::read_dir(&directory).map_err(FileError::io("read", &directory))?;
            let mut images = BTreeMap::new();
            for entry in entries {
                let path = entry.map_err(FileError::io("read", &directory))?.path();
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                if path.extension().is_some_and(|extension| extension == "png") {
                    images.insert(name.into_owned(), path.clone());
                }
            }
            steps.insert(step, images);
        }
        Ok(Self(steps))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn at(&self, step: usize, name: &str) -> Option<&Path> {
        Some(self.0.get(&step)?.get(name)?.as_path())
    }
}

/// A grid for each prompt and seed: arms and steps. What cannot be read is left out.
pub(super) fn show(report: &Report, page: &mut Page) {
    let arms = report.arms.iter().filter(|arm| !arm.samples.is_empty());
    let arms: Vec<(&str, &SampleImages)> =
        arms.map(|arm| (arm.name.as_str(), &arm.samples)).collect();
    if arms.is_empty() {
        return;
    }
    page.heading("Samples");
    page.paragraph(
        "Images of the same prompts and seeds as the training goes on, of the first seed of each arm; they are \
         in full size in the directory `samples` of its run.",
    );
    let steps = arms.iter().flat_map(|(_, samples)| samples.0.keys());
    let steps = spread(&steps.copied().collect());
    let images = arms.iter().flat_map(|(_, samples)| samples.0.values());
    let names: BTreeSet<&String> = images.flat_map(BTreeMap::keys).collect();
    for name in names {
        let mut header = vec![format!("image {name}")];
        header.extend(steps.iter().map(|step| format!("step {step}")));
        let rows = arms.iter().map(|(arm, samples)| ImageRow {
            name: (*arm).to_owned(),
            images: steps
                .iter()
                .map(|step| thumbnail(samples.at(*step, name)?))
                .collect(),
        });
        page.images(&ImageGrid {
            header,
            rows: rows.collect(),
        });
    }
}

/// Not too many of the steps, the first and the last among them.
fn spread(steps: &BTreeSet<usize>) -> Vec<usize> {
    let all: Vec<usize> = steps.iter().copied().collect();
    if all.len() <= STEPS {
        return all;
    }
    let last = all.len() - 1;
    (0..STEPS)
        .map(|place| all[place * last / (STEPS - 1)])
        .collect()
}

/// An image as a small PNG; nothing if it cannot be read.
pub(crate) fn thumbnail(path: &Path) -> Option<Vec<u8>> {
    let image = decode(&std::fs::read(path).ok()?).ok()?;
    let (width, height) = (image.width(), image.height());
    let longer = width.max(height);
    let scaled = |side: usize| (side * SIDE / longer).max(1);
    let image: RgbImage = match longer <= SIDE {
        true => image,
        false => resize(&image, scaled(width), scaled(height), Filter::Lanczos),
    };
    encode_png(&image, &[]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_step_are_shown_however_many_there_are() {
        let steps = |count: usize| (0..count).map(|step| step * 5).collect::<BTreeSet<_>>();
        assert_eq!(spread(&steps(3)), [0, 5, 10]);
        let found = spread(&steps(101));
        assert_eq!(found.len(), STEPS);
        assert_eq!((found[0], found[STEPS - 1]), (0, 500));
        assert!(found.is_sorted());
    }
}
