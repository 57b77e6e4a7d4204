//! GGUF files in and out.
//!
//! A GGUF file holds typed metadata and tensors, most of them quantised in blocks. Nothing of it is
//! trusted: every count, length, offset and shape is checked before it is used, and nothing is
//! allocated that the length of the file does not justify. Tensors are slices of the mapped file.
//!
//! ```
//! use eigenmix_gguf::{GgufFile, GgufOutput, GgufValue, write_gguf};
//! use eigenmix_quant::Encoding;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("tiny.gguf");
//! let metadata = [("general.architecture".to_owned(), GgufValue::from("llama"))];
//! let row = [1.0f32, 2.0].map(f32::to_le_bytes).concat();
//! write_gguf(&path, &metadata, &[GgufOutput::new("row", [1, 2], Encoding::F32, &row)])?;
//!
//! let file = GgufFile::open(&path)?;
//! assert_eq!(file.text("general.architecture")?, Some("llama"));
//! assert_eq!(file.tensor("row")?.shape, [1, 2]);
//! # Ok(())
//! # }
//! ```

mod beginning;
mod cursor;
mod error;
mod family;
mod file;
mod file_name;
mod header;
mod metadata;
mod output;
mod row_order;
mod split;
mod value;

pub use beginning::text_in_beginning;
pub use error::{GgufError, HeaderError};
pub use family::GgufFamily;
pub use file::{GgufFile, GgufTensor, TensorFormat};
pub use file_name::is_gguf_name;
pub use output::{GgufOutput, write_gguf};
pub use row_order::gguf_row_order;
pub use split::part_names;
pub use value::{GgufArray, GgufValue};
