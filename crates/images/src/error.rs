//! Why bytes are not an image, and why a model's preprocessor cannot be followed.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why bytes cannot be decoded as an image.
#[derive(Debug, Error)]
pub enum ImageError {
    #[error(
        "expected JPEG, PNG, WebP, GIF or BMP, found {found}; convert the image to one of these"
    )]
    UnknownFormat {
        /// The first bytes, or that there are none.
        found: String,
    },

    #[error("not a valid {format} file")]
    Malformed {
        format: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    #[error("the {format} file ends too early; copy or download it again")]
    Truncated { format: &'static str },

    #[error("the {format} file has {found}, expected {expected}; convert it to PNG")]
    Unsupported {
        format: &'static str,
        expected: &'static str,
        found: String,
    },

    #[error(
        "the image would have {width} × {height} pixels, expected 1 to {most} in total; \
         is the file correct?"
    )]
    Size {
        width: usize,
        height: usize,
        most: usize,
    },

    #[error(
        "the header of the image says {} and its pixels {}; write the image again",
        pixels(*.header),
        pixels(*.found)
    )]
    HeaderSize {
        /// `[height, width]`
        header: [usize; 2],
        /// `[height, width]`
        found: [usize; 2],
    },
}

/// Why the images for a model cannot be prepared.
#[derive(Debug, Error)]
pub enum PreprocessorError {
    #[error(
        "`{dir}` has no preprocessor_config.json, which says how images are resized and \
         normalised; copy it from the model's page on the Hub"
    )]
    Missing { dir: PathBuf },

    #[error("cannot read `{path}`")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("`{path}` is not the expected JSON")]
    MalformedJson {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },

    #[error("`{path}`: {problem}")]
    Invalid { path: PathBuf, problem: String },

    #[error(
        "`{dir}`: preprocessor_config.json gives images of {}, but config.json says {}; \
         is one of the files from another model?",
        pixels(*.found),
        pixels(*.expected)
    )]
    ModelSize {
        dir: PathBuf,
        /// `[height, width]`
        expected: [usize; 2],
        /// `[height, width]`
        found: [usize; 2],
    },
}

fn pixels([height, width]: [usize; 2]) -> String {
    format!("height {height} and width {width}")
}
