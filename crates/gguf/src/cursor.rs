//! Numbers, texts and values read from the front of a file to its end.

use crate::error::HeaderError;
use crate::value::{GgufArray, GgufValue};

/// How deep arrays may lie in arrays. Files have none in practice.
const DEPTH_LIMIT: usize = 8;

/// Why reading stopped.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The file would have to have so many bytes.
    Truncated(u64),
    Malformed(HeaderError),
}

impl From<HeaderError> for Stopped {
    fn from(problem: HeaderError) -> Self {
        Self::Malformed(problem)
    }
}

pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position as u64
    }

    pub(crate) fn take(&mut self, length: u64) -> Result<&'a [u8], Stopped> {
        let rest = &self.bytes[self.position..];
        let taken = usize::try_from(length)
            .ok()
            .and_then(|length| rest.get(..length))
            .ok_or_else(|| Stopped::Truncated(self.position().saturating_add(length)))?;
        self.position += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stopped> {
        let taken = self.take(N as u64)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(taken);
        Ok(bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Stopped> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Stopped> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn text(&mut self) -> Result<String, Stopped> {
        let length = self.u64()?;
        let position = self.position();
        let text = std::str::from_utf8(self.take(length)?);
        let text = text.map_err(|_| HeaderError::NotUtf8(position))?;
        Ok(text.to_owned())
    }

    /// A value with its type in front; `key` is for messages.
    pub(crate) fn value(&mut self, key: &str) -> Result<GgufValue, Stopped> {
        let number = self.u32()?;
        Ok(match number {
            0 => GgufValue::U8(self.array().map(u8::from_le_bytes)?),
            1 => GgufValue::I8(self.array().map(i8::from_le_bytes)?),
            2 => GgufValue::U16(self.array().map(u16::from_le_bytes)?),
            3 => GgufValue::I16(self.array().map(i16::from_le_bytes)?),
            4 => GgufValue::U32(self.u32()?),
            5 => GgufValue::I32(self.array().map(i32::from_le_bytes)?),
            6 => GgufValue::F32(self.array().map(f32::from_le_bytes)?),
            7 => {
                let [byte] = self.array()?;
                GgufValue::Bool(boolean(byte, key)?)
            }
            8 => GgufValue::String(self.text()?),
            9 => GgufValue::Array(self.elements(key, 1)?),
            10 => GgufValue::U64(self.u64()?),
            11 => GgufValue::I64(self.array().map(i64::from_le_bytes)?),
            12 => GgufValue::F64(self.array().map(f64::from_le_bytes)?),
            _ => return Err(unknown_type(key, number)),
        })
    }

    /// An array, the type and the number of its elements in front. What is allocated is in
    /// proportion to the bytes that are there: a text takes eight bytes at least, an array twelve.
    fn elements(&mut self, key: &str, depth: usize) -> Result<GgufArray, Stopped> {
        let number = self.u32()?;
        let count = self.u64()?;
        Ok(match number {
            0 => GgufArray::U8(self.numbers(count, u8::from_le_bytes)?),
            1 => GgufArray::I8(self.numbers(count, i8::from_le_bytes)?),
            2 => GgufArray::U16(self.numbers(count, u16::from_le_bytes)?),
            3 => GgufArray::I16(self.numbers(count, i16::from_le_bytes)?),
            4 => GgufArray::U32(self.numbers(count, u32::from_le_bytes)?),
            5 => GgufArray::I32(self.numbers(count, i32::from_le_bytes)?),
            6 => GgufArray::F32(self.numbers(count, f32::from_le_bytes)?),
            7 => {
                let bytes = self.take(count)?.iter();
                let values: Result<_, _> = bytes.map(|&byte| boolean(byte, key)).collect();
                GgufArray::Bool(values?)
            }
            8 => {
                let mut values = Vec::with_capacity(self.plausible(count, 8)?);
                for _ in 0..count {
                    values.push(self.text()?);
                }
                GgufArray::String(values)
            }
            9 if depth >= DEPTH_LIMIT => {
                let key = key.to_owned();
                let limit = DEPTH_LIMIT;
                return Err(HeaderError::TooDeep { key, limit }.into());
            }
            9 => {
                let mut values = Vec::with_capacity(self.plausible(count, 12)?);
                for _ in 0..count {
                    values.push(self.elements(key, depth + 1)?);
                }
                GgufArray::Array(values)
            }
            10 => GgufArray::U64(self.numbers(count, u64::from_le_bytes)?),
            11 => GgufArray::I64(self.numbers(count, i64::from_le_bytes)?),
            12 => GgufArray::F64(self.numbers(count, f64::from_le_bytes)?),
            _ => return Err(unknown_type(key, number)),
        })
    }

    fn numbers<T, const N: usize>(
        &mut self,
        count: u64,
        number: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Stopped> {
        let bytes = self.take(count.saturating_mul(N as u64))?;
        let (chunks, _) = bytes.as_chunks();
        Ok(chunks.iter().map(|&chunk| number(chunk)).collect())
    }

    /// `count`, if that many elements of at least `least` bytes can still come.
    fn plausible(&self, count: u64, least: u64) -> Result<usize, Stopped> {
        let rest = self.bytes.len() - self.position;
        let length = count.saturating_mul(least);
        if length > rest as u64 {
            return Err(Stopped::Truncated(self.position().saturating_add(length)));
        }
        // Fits: it is less than the length of a slice.
        Ok(count as usize)
    }
}

fn boolean(byte: u8, key: &str) -> Result<bool, Stopped> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        found => {
            let key = key.to_owned();
            Err(HeaderError::Boolean { key, found }.into())
        }
    }
}

fn unknown_type(key: &str, found: u32) -> Stopped {
    let key = key.to_owned();
    HeaderError::UnknownValueType { key, found }.into()
}
