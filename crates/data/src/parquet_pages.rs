//! What the headers of a parquet file's pages promise, looked at before a page is read: a damaged or
//! malicious header makes the library reserve as much memory as it says.
//!
//! A header is a structure in thrift's compact protocol, of which these fields count:
//!
//! ```text
//! PageHeader { 2: i32 uncompressed_page_size, 3: i32 compressed_page_size,
//!              5 | 7 | 8: { 1: i32 num_values } }
//! ```
//!
//! What comes out of a page is bounded by its header for every compression but gzip, whose ratio is at
//! most 1032, and brotli.

use std::fs::File;
use std::io::{self, Read};

use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::ColumnChunkMetaData;
use ::parquet::file::reader::{ChunkReader, Length};

use crate::expansion::Budget;

/// What a value costs in a list of them, with its levels.
const BYTES_A_VALUE: u64 = 32;

/// How deep structures may lie in a header; the format has three.
const DEEPEST: usize = 8;

/// Refuses a column's part of a row group whose pages lie outside of the file, or would become larger
/// than the file is worth.
///
/// Where a header is not understood the rest is left to the library, which reads the same bytes.
///
/// # Errors
/// If there is such a page.
pub(crate) fn check(file: &File, chunk: &ColumnChunkMetaData) -> Result<(), ParquetError> {
    let size = file.len();
    let mut budget = Budget::new(size);
    let (mut start, length) = chunk.byte_range();
    let Some(end) = start.checked_add(length).filter(|end| *end <= size) else {
        let problem = "a column would go beyond the end of the file; download it again";
        return Err(ParquetError::General(problem.to_owned()));
    };
    while start < end {
        let Some(header) = PageHeader::read(file.get_read(start)?.take(end - start)) else {
            return Ok(());
        };
        let values = header.values.saturating_mul(BYTES_A_VALUE);
        budget.spend(header.uncompressed.saturating_add(values))?;
        start = match header.compressed.checked_add(start + header.length) {
            Some(next) if next <= end => next,
            _ => {
                let problem = "a page would go beyond its column";
                return Err(ParquetError::General(problem.to_owned()));
            }
        };
    }
    Ok(())
}

/// What counts of a page's header.
#[derive(Debug, Default, PartialEq, Eq)]
struct PageHeader {
    uncompressed: u64,
    compressed: u64,
    values: u64,
    /// Its own length in bytes.
    length: u64,
}

impl PageHeader {
    /// `None` where the bytes are no such structure.
    fn read(reader: impl Read) -> Option<Self> {
        let mut thrift = Thrift { reader, read: 0 };
        let mut header = Self::default();
        let mut field = 0;
        while let Some(kind) = thrift.field(&mut field).ok()? {
            match (field, kind) {
                (2, I32) => header.uncompressed = thrift.count()?,
                (3, I32) => header.compressed = thrift.count()?,
                (5 | 7 | 8, STRUCTURE) => {
                    let mut inner = 0;
                    while let Some(kind) = thrift.field(&mut inner).ok()? {
                        match (inner, kind) {
                            (1, I32) => header.values = thrift.count()?,
                            _ => thrift.skip(kind, DEEPEST).ok()?,
                        }
                    }
                }
                _ => thrift.skip(kind, DEEPEST).ok()?,
            }
        }
        header.length = thrift.read;
        Some(header)
    }
}

// The types of fields. A boolean's value is its type.
const I32: u8 = 5;
const STRUCTURE: u8 = 12;

/// Reads thrift's compact protocol.
struct Thrift<R> {
    reader: R,
    read: u64,
}

impl<R: Read> Thrift<R> {
    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        self.read += 1;
        Ok(byte[0])
    }

    fn variable(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// A number that is not negative; signs are in the last bit.
    fn count(&mut self) -> Option<u64> {
        let value = self.variable().ok()?;
        (value & 1 == 0).then_some(value >> 1)
    }

    /// The type of the next field, whose number replaces that of the one before; `None` at the end of a
    /// structure.
    fn field(&mut self, number: &mut i64) -> io::Result<Option<u8>> {
        let byte = self.byte()?;
        let (step, kind) = (byte >> 4, byte & 0x0f);
        if kind == 0 {
            return Ok(None);
        }
        *number = match step {
            0 => {
                let value = self.variable()?;
                (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
            }
            step => number.saturating_add(i64::from(step)),
        };
        Ok(Some(kind))
    }

    fn skip_bytes(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.reader).take(count), &mut io::sink())?;
        self.read += skipped;
        match skipped == count {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> io::Result<()> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match kind {
            1 | 2 => Ok(()),
            3 => self.skip_bytes(1),
            4..=6 => self.variable().map(|_| ()),
            7 => self.skip_bytes(8),
            8 => {
                let length = self.variable()?;
                self.skip_bytes(length)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => self.variable()?,
                    count => u64::from(count),
                };
                (0..count).try_for_each(|_| self.skip_element(head & 0x0f, depth))
            }
            11 => {
                let count = self.variable()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                (0..count).try_for_each(|_| {
                    self.skip_element(kinds >> 4, depth)?;
                    self.skip_element(kinds & 0x0f, depth)
                })
            }
            STRUCTURE => {
                let mut number = 0;
                while let Some(kind) = self.field(&mut number)? {
                    self.skip(kind, depth)?;
                }
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// In lists a boolean is a byte.
    fn skip_element(&mut self, kind: u8, depth: usize) -> io::Result<()> {
        match kind {
            1 | 2 => self.skip_bytes(1),
            kind => self.skip(kind, depth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_values_are_found_among_the_other_fields() {
        // type 0, 300 bytes of 20, a checksum, then of a data page: 7 values, an encoding, statistics
        // with a binary and a boolean; all behind a list of structures that nobody knows.
        let bytes = [
            0x15, 0, 0x15, 0xd8, 0x04, 0x15, 40, 0x15, 9, // fields 1 to 4
            0x1c, 0x15, 14, 0x15, 0, 0x1c, 0x18, 2, b'a', b'b', 0x11, 0, 0, // field 5
            0x4c, 0x15, 2, 0, // field 9, another structure
            0x19, 0x2c, 0x15, 2, 0, 0, // field 10, a list of two structures
            0, 0xff,
        ];
        let header = PageHeader::read(bytes.as_slice());
        let expected = PageHeader {
            uncompressed: 300,
            compressed: 20,
            values: 7,
            length: bytes.len() as u64 - 1,
        };
        assert_eq!(header, Some(expected));
        assert_eq!(PageHeader::read(&bytes[..20]), None);
        let negative = [0x25, 1, 0];
        assert_eq!(PageHeader::read(negative.as_slice()), None);
    }
}
