//! What can be wrong with images and captions that a diffusion model is trained on.

use std::path::PathBuf;

use thiserror::Error;

use crate::row::Place;

/// What can be wrong with images, captions, and the sizes that they are to be brought to.
#[derive(Debug, Error)]
pub enum DiffusionDataError {
    #[error(
        "{place}: the columns {columns} may all be captions; say which is meant with `data.caption`"
    )]
    SeveralCaptions { place: Place, columns: String },

    #[error("{place}: column `{column}` has no caption; write one, or remove the row")]
    NoCaption { place: Place, column: String },

    #[error(
        "{place}: column `{column}` has an empty caption; write one, or remove it (to train without a \
         caption now and then, set caption dropout)"
    )]
    EmptyCaption { place: Place, column: String },

    #[error(
        "`{image}` has no caption: expected `{expected}` beside it, or a line in metadata.jsonl{}",
        and_others(*.others)
    )]
    NoCaptionFile {
        image: PathBuf,
        /// The names that the file may have.
        expected: String,
        /// How many other images have none either.
        others: usize,
    },

    #[error("`{path}` is empty; write a caption into it, a line for each if there are several")]
    EmptyCaptionFile { path: PathBuf },

    #[error("`{image}` has two files with captions, {files}; keep one of them")]
    TwoCaptionFiles { image: PathBuf, files: String },

    #[error("`{dir}` has {files}; keep one of them")]
    TwoTablesOfMetadata { dir: PathBuf, files: String },

    #[error(
        "`data.resolution` is {width} × {height} pixels (width and height), and the model takes \
         multiples of {multiple}; the nearest are {nearest}"
    )]
    Resolution {
        width: usize,
        height: usize,
        multiple: usize,
        nearest: String,
    },

    #[error(
        "`data.bucket_step` is {step}, and the model takes multiples of {multiple}: {multiple}, {}, {} …",
        2 * multiple, 3 * multiple
    )]
    BucketStep { step: usize, multiple: usize },

    #[error(
        "`data.bucket_aspect` is {aspect}, expected at least 1: the longer side of an image over its shorter"
    )]
    BucketAspect { aspect: f64 },

    #[error(
        "with `data.bucket_step = {step}` and `data.bucket_aspect = {aspect}` no image has at most the \
         pixels of `data.resolution` ({width} × {height}); lower the step, or raise the resolution"
    )]
    NoBucket {
        step: usize,
        aspect: f64,
        width: usize,
        height: usize,
    },

    #[error("`data.{key}` has no effect without `data.buckets = true`; set that, or leave it out")]
    WithoutBuckets { key: &'static str },

    #[error(
        "{count} of {all} images are smaller than they are trained at: {named}; enlarge them or leave \
         them out with `data.small_images`, or lower `data.resolution`"
    )]
    SmallImages {
        count: usize,
        all: usize,
        /// The first of them, each with its size and that of the training.
        named: String,
    },

    #[error(
        "all {all} images are smaller than they are trained at and would be left out: {named}; enlarge \
         them with `data.small_images = \"enlarge\"`, or lower `data.resolution`"
    )]
    AllSmall { all: usize, named: String },

    #[error("`data.{key}` is missing; {reason}")]
    Missing {
        key: &'static str,
        reason: &'static str,
    },

    #[error("`data.{key}` is empty; write the words that the images are trained with")]
    EmptyPrompt { key: &'static str },

    #[error("`data.{key}` has no effect without `data.class_prompt`; set that, or leave it out")]
    WithoutClass { key: &'static str },

    #[error(
        "`data.class_images` is `{path}`, which is no folder; name the one with the class images"
    )]
    ClassIsNoFolder { path: PathBuf },

    #[error("`data.instance_images`: no image in `{dir}` is called `{name}`; there are {found}")]
    NoSuchImage {
        dir: PathBuf,
        name: String,
        found: String,
    },

    #[error("`data.instance_images`: `{pattern}` is no pattern: {problem}")]
    ImagePattern {
        pattern: String,
        problem: &'static str,
    },

    #[error("`{dir}` has no images; expected files that end in {endings}")]
    NoImages { dir: PathBuf, endings: String },
}

fn and_others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => "; another image has none either".to_owned(),
        _ => format!("; {count} other images have none either"),
    }
}
