//! What stands in front of the data of a file: its metadata and the table of its tensors, checked
//! against each other and against the length of the file.

use std::collections::BTreeMap;
use std::ops::Range;

use eigenmix_quant::Encoding;

use crate::cursor::{Cursor, Stopped};
use crate::error::HeaderError;
use crate::file::TensorFormat;
use crate::value::GgufValue;

/// The magic and the version, which are read before.
pub(crate) const PREFIX: u64 = 8;

const ALIGNMENT: &str = "general.alignment";

/// Where tensors begin if the file does not say otherwise.
pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;

/// The most dimensions that a tensor has.
const MOST_DIMENSIONS: u32 = 4;

pub(crate) struct Header {
    pub(crate) metadata: BTreeMap<String, GgufValue>,
    pub(crate) tensors: BTreeMap<String, TensorEntry>,
}

pub(crate) struct TensorEntry {
    /// Row-major: the dimension whose values follow each other is the last one.
    pub(crate) shape: Vec<usize>,
    pub(crate) format: TensorFormat,
    /// Where it lies in the file; empty for a format that is not read, whose size is not known.
    pub(crate) bytes: Range<u64>,
}

/// A tensor as the table has it.
struct Listed {
    name: String,
    /// The dimension whose values follow each other is the first one.
    dimensions: Vec<u64>,
    number: u32,
    offset: u64,
}

/// Reads and checks what follows the prefix of a whole file.
pub(crate) fn read(file: &[u8]) -> Result<Header, Stopped> {
    let mut cursor = Cursor::new(file);
    cursor.take(PREFIX)?;
    let tensor_count = cursor.u64()?;
    let value_count = cursor.u64()?;

    let mut metadata = BTreeMap::new();
    for _ in 0..value_count {
        let position = cursor.position();
        let key = cursor.text()?;
        if key.is_empty() {
            return Err(HeaderError::EmptyKey(position).into());
        }
        let value = cursor.value(&key)?;
        if metadata.contains_key(&key) {
            return Err(HeaderError::KeyTwice(key).into());
        }
        metadata.insert(key, value);
    }
    let alignment = alignment(&metadata)?;

    let mut listed = Vec::new();
    for _ in 0..tensor_count {
        listed.push(read_listed(&mut cursor)?);
    }
    let header_end = cursor.position();
    let data_start = header_end.next_multiple_of(alignment);

    let mut tensors = BTreeMap::new();
    let mut taken = Vec::with_capacity(listed.len());
    let mut end = header_end;
    for tensor in listed {
        let entry = tensor.checked(alignment, data_start)?;
        end = end.max(entry.bytes.end);
        taken.push((entry.bytes.clone(), tensor.name.clone()));
        let Listed { name, .. } = tensor;
        if tensors.contains_key(&name) {
            return Err(HeaderError::TensorTwice(name).into());
        }
        tensors.insert(name, entry);
    }
    if end > file.len() as u64 {
        return Err(Stopped::Truncated(end));
    }
    taken.sort_by_key(|(bytes, _)| (bytes.start, bytes.end));
    for pair in taken.windows(2) {
        let [(bytes, name), (next, other)] = pair else {
            continue;
        };
        if bytes.end > next.start {
            return Err(HeaderError::Overlap(name.clone(), other.clone()).into());
        }
    }
    Ok(Header { metadata, tensors })
}

fn alignment(metadata: &BTreeMap<String, GgufValue>) -> Result<u64, HeaderError> {
    let Some(value) = metadata.get(ALIGNMENT) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match value {
        &GgufValue::U32(bytes) if bytes >= 8 && bytes.is_power_of_two() => Ok(bytes.into()),
        other => Err(HeaderError::Alignment(other.describe())),
    }
}

fn read_listed(cursor: &mut Cursor<'_>) -> Result<Listed, Stopped> {
    let name = cursor.text()?;
    let rank = cursor.u32()?;
    if rank > MOST_DIMENSIONS {
        let (tensor, found) = (name, rank);
        return Err(HeaderError::Dimensions { tensor, found }.into());
    }
    let dimensions: Result<_, _> = (0..rank).map(|_| cursor.u64()).collect();
    Ok(Listed {
        name,
        dimensions: dimensions?,
        number: cursor.u32()?,
        offset: cursor.u64()?,
    })
}

impl Listed {
    /// Everything about it but whether it lies within the file.
    fn checked(&self, alignment: u64, data_start: u64) -> Result<TensorEntry, HeaderError> {
        let too_large = || HeaderError::TooLarge {
            tensor: self.name.clone(),
            found: self.dimensions.clone(),
        };
        let shape: Option<Vec<usize>> = self
            .dimensions
            .iter()
            .rev()
            .map(|&size| usize::try_from(size).ok())
            .collect();
        let shape = shape.ok_or_else(too_large)?;
        // What counts is every product, so that an empty dimension hides no overflow.
        let values = shape
            .iter()
            .try_fold(1usize, |product, &size| product.checked_mul(size.max(1)));
        values.ok_or_else(too_large)?;

        if !self.offset.is_multiple_of(alignment) {
            let (tensor, offset) = (self.name.clone(), self.offset);
            return Err(HeaderError::Unaligned {
                tensor,
                offset,
                alignment,
            });
        }
        let (format, length) = match Encoding::from_ggml(self.number) {
            None => (TensorFormat::Other(self.number), 0),
            Some(encoding) => {
                let row = shape.last().copied().unwrap_or(1);
                let row_bytes = match row % encoding.block_len() {
                    0 => encoding.row_bytes(row).ok_or_else(too_large)?,
                    _ => {
                        return Err(HeaderError::RowLength {
                            tensor: self.name.clone(),
                            found: row,
                            encoding: encoding.name(),
                            block: encoding.block_len(),
                        });
                    }
                };
                let rows: usize = shape.iter().rev().skip(1).product();
                let length = rows.checked_mul(row_bytes).ok_or_else(too_large)?;
                (TensorFormat::Read(encoding), length)
            }
        };
        let start = data_start.checked_add(self.offset).ok_or_else(too_large)?;
        let end = start.checked_add(length as u64).ok_or_else(too_large)?;
        Ok(TensorEntry {
            shape,
            format,
            bytes: start..end,
        })
    }
}
