//! Host tensors: dense matrices, safetensors files in and out, and outputs that are complete or
//! absent.
//!
//! Nothing that comes from a file is trusted: headers, offsets, shapes and dtypes are checked
//! before they are used. No file is ever half written: output is written beside its target and
//! renamed.
//!
//! ```
//! use eigenmix_tensors::{Matrix, TensorFile, TensorOutput, write_tensor_file};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("factors.safetensors");
//! let factor = Matrix::new(2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
//! write_tensor_file(&path, vec![TensorOutput::f32("a", factor.shape(), factor.values())])?;
//!
//! let file = TensorFile::open(&path)?;
//! assert_eq!(file.shape("a")?, [2, 3]);
//! assert_eq!(file.read_finite_f32("a")?, factor.values());
//! # Ok(())
//! # }
//! ```

mod encoding;
mod error;
mod file_lock;
mod host_tensor;
mod matrix;
mod output;
mod tensor_file;
mod tensor_output;

pub use encoding::{encode, is_exact};
pub use error::FileError;
pub use file_lock::FileLock;
pub use host_tensor::HostTensor;
pub use matrix::Matrix;
pub use output::{write_directory, write_file, write_file_with};
pub use safetensors::Dtype;
pub use tensor_file::{HeldTensor, TensorFile};
pub use tensor_output::{TensorOutput, write_tensor_file, write_tensor_file_with};
