//! A tensor on its way into a file, borrowed from its adapter where nothing has to change.

use std::borrow::Cow;
use std::path::Path;

use eigenmix_tensors::{FileError, Matrix, TensorOutput};

/// A tensor with the name that it gets in the file.
pub(crate) struct NamedTensor<'a> {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// Row-major, as many as `shape` says.
    pub(crate) values: Cow<'a, [f32]>,
}

impl NamedTensor<'_> {
    /// Refuses to write numbers that [`crate::AdapterFile`] would refuse to read.
    ///
    /// # Errors
    /// If a value is NaN or infinite; `path` is where it was to be written.
    pub(crate) fn require_finite(&self, path: &Path) -> Result<(), FileError> {
        match self.values.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(position) => Err(FileError::NotFinite {
                path: path.to_owned(),
                tensor: self.name.clone(),
                value: self.values[position],
                position,
            }),
        }
    }

    /// The tensor in f32.
    pub(crate) fn output(&self) -> TensorOutput<'_> {
        TensorOutput::f32(self.name.as_str(), self.shape.as_slice(), &self.values)
    }
}

/// The entries of a matrix, row by row.
pub(crate) fn values_of(matrix: Cow<'_, Matrix>) -> Cow<'_, [f32]> {
    match matrix {
        Cow::Borrowed(matrix) => Cow::Borrowed(matrix.values()),
        Cow::Owned(matrix) => Cow::Owned(matrix.into_values()),
    }
}
