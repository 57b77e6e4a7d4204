//! Images of the arms of an experiment, side by side.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use eigenmix_charts::{ImageGrid, ImageRow, Page};
use eigenmix_tensors::{FileError, write_directory, write_file};

use super::generation::{Generated, Making, write_list};
use super::{GenerateRequest, MeasuredImage, WeightedAdapter};
use crate::destination::Destination;
use crate::listener::Listener;
use crate::report::{ExperimentPlan, thumbnail};
use crate::{BadInput, ExperimentError};

/// The base model without an adapter, among the arms.
const BASE: &str = "base";
/// The page of all images.
const PAGE: &str = "images.html";

/// Makes the same images with the base model alone and with the adapter of the first finished seed of every arm of an
/// experiment, in a directory for each, with a page that shows them side by side.
///
/// - request: how they are made; its adapters go along with those of the arms
/// - experiment: its directory
///
/// # Errors
/// As [`super::generate`], or if the experiment has no finished arm with an adapter.
pub fn generate_arms(
    request: &GenerateRequest,
    experiment: &Path,
    destination: &Destination,
    stop: &AtomicBool,
    listener: &dyn Listener,
) -> Result<Generated, ExperimentError> {
    let adapters = ExperimentPlan::read(experiment)?.adapters(experiment)?;
    if adapters.is_empty() {
        let problem = format!(
            "no arm of `{}` is finished and has an adapter",
            experiment.display()
        );
        return Err(BadInput(problem).into());
    }
    let mut arms = vec![(BASE.to_owned(), request.clone())];
    for (name, adapter) in adapters {
        let mut request = request.clone();
        request.model.adapters.push(WeightedAdapter {
            name: adapter.display().to_string(),
            weight: 1.0,
        });
        arms.push((name, request));
    }
    let makings = arms.iter().map(|(name, request)| {
        let making = Making::prepare(request, listener)?;
        Ok::<_, ExperimentError>((name.as_str(), making))
    });
    let makings = makings.collect::<Result<Vec<_>, _>>()?;
    let mut all: Vec<MeasuredImage> = Vec::new();
    let mut is_stopped = false;
    let write = |directory: &Path| {
        let mut shown: Vec<(&str, Vec<MeasuredImage>)> = Vec::new();
        for (name, making) in &makings {
            let inner = directory.join(name);
            std::fs::create_dir_all(&inner).map_err(FileError::io("create", &inner))?;
            let found = match making.write(&inner, stop, listener) {
                Err(ExperimentError::Interrupted) if !shown.is_empty() => {
                    is_stopped = true;
                    break;
                }
                found => found?,
            };
            let images = found.images.into_iter().map(|mut image| {
                image.record.file = format!("{name}/{}", image.record.file);
                image
            });
            shown.push((name, images.collect()));
            if found.is_stopped {
                is_stopped = true;
                break;
            }
        }
        let page = page(experiment, &shown, directory).render();
        write_file(&directory.join(PAGE), page.as_bytes())?;
        all = shown.into_iter().flat_map(|(_, images)| images).collect();
        write_list(&all, directory)
    };
    write_directory(destination.path(), destination.force(), write)?;
    Ok(Generated {
        images: all,
        is_stopped,
    })
}

/// A row for each arm, a column for each prompt and seed.
fn page(experiment: &Path, shown: &[(&str, Vec<MeasuredImage>)], directory: &Path) -> Page {
    let mut page = Page::new(format!("Images of {}", experiment.display()));
    page.paragraph("The same prompts and seeds with the adapter of each arm; in full size the images lie beside this page.");
    let columns = shown.first().map(|(_, images)| images.as_slice());
    let columns = columns.unwrap_or_default().iter().map(|image| {
        let record = &image.record;
        format!("{}, seed {}", record.prompt, record.seed)
    });
    let rows = shown.iter().map(|(name, images)| ImageRow {
        name: (*name).to_owned(),
        images: images
            .iter()
            .map(|image| thumbnail(&directory.join(&image.record.file)))
            .collect(),
    });
    page.images(&ImageGrid {
        header: std::iter::once("arm".to_owned()).chain(columns).collect(),
        rows: rows.collect(),
    });
    page
}
