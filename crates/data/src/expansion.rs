//! How much a compressed file may become, so that a small one cannot fill the memory.

use std::fmt;
use std::io::{self, Read};

use ::parquet::errors::ParquetError;

/// Texts of tables shrink to a fifth or a tenth, the most repetitive ones to a hundredth.
const MOST_PER_BYTE: u64 = 256;

/// What any file may become, however small it is.
const ALWAYS: u64 = 64 << 20;

/// The most bytes that a compressed file of `size` bytes may become.
fn most(size: u64) -> u64 {
    size.saturating_mul(MOST_PER_BYTE).saturating_add(ALWAYS)
}

/// That a file would become more than [`most`] allows.
#[derive(Debug)]
struct TooLarge {
    size: u64,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, most) = (self.size, most(self.size) >> 20);
        write!(
            formatter,
            "its {size} bytes become more than {most} MiB, {MOST_PER_BYTE} times as many and 64 MiB; \
             if they are to, write it again without compression"
        )
    }
}

impl std::error::Error for TooLarge {}

impl From<TooLarge> for ParquetError {
    fn from(error: TooLarge) -> Self {
        Self::External(Box::new(error))
    }
}

/// Reads what a decoder makes of a file, as far as [`most`] allows.
pub(crate) struct Bounded<R> {
    decoder: R,
    size: u64,
    left: u64,
}

impl<R: Read> Bounded<R> {
    /// - size: of the compressed file, in bytes
    pub(crate) fn new(decoder: R, size: u64) -> Self {
        let left = most(size);
        Self {
            decoder,
            size,
            left,
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => {
                self.left = left;
                Ok(count)
            }
            None => Err(io::Error::other(TooLarge { size: self.size })),
        }
    }
}

/// Counts what comes out of a parquet file, up to [`most`].
pub(crate) struct Budget {
    size: u64,
    left: u64,
}

impl Budget {
    pub(crate) fn new(size: u64) -> Self {
        let left = most(size);
        Self { size, left }
    }

    /// # Errors
    /// If that is more than is left.
    pub(crate) fn spend(&mut self, bytes: u64) -> Result<(), ParquetError> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or(TooLarge { size: self.size })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_as_is_allowed_is_read_and_no_more() {
        let read = |length: u64| {
            let decoder = io::repeat(b' ').take(length);
            io::copy(&mut Bounded::new(decoder, 1), &mut io::sink())
        };
        let most = (64 << 20) + 256;
        assert_eq!(read(most).unwrap(), most);
        let error = read(most + 1).unwrap_err().to_string();
        assert!(error.contains("its 1 bytes become more than"), "{error}");
    }
}
