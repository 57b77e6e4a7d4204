//! A file of rows, opened as its name says: which format, and how it is compressed.
//!
//! What a compressed text becomes is bounded (see [`expansion`](crate::expansion)).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::error::DataError;
use crate::expansion::Bounded;
use crate::split::Format;

/// A file of rows; texts are decompressed as they are read.
pub(crate) enum DataFile {
    /// An object a line, or one array of them.
    Json(Box<dyn BufRead>),
    Csv(Box<dyn Read>),
    /// Compresses its columns itself.
    Parquet(File),
}

/// How a whole file of text is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstandard,
}

impl Compression {
    /// The rest of a name before the ending of a compression, and which that is.
    pub(crate) fn split_name(name: &str) -> (&str, Option<Self>) {
        match name.rsplit_once('.') {
            Some((rest, "gz")) => (rest, Some(Self::Gzip)),
            Some((rest, "zst")) => (rest, Some(Self::Zstandard)),
            _ => (name, None),
        }
    }

    /// # Errors
    /// If compressing fails.
    pub(crate) fn compress(self, content: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(content)?;
                encoder.finish()
            }
            Self::Zstandard => zstd::encode_all(content, zstd::DEFAULT_COMPRESSION_LEVEL),
        }
    }
}

impl DataFile {
    /// # Errors
    /// If the name says no format, or the file cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some((_, format, compression)) = name.and_then(Format::split_name) else {
            return Err(DataError::UnknownFormat {
                path: path.to_owned(),
            });
        };
        let unreadable = |source| DataError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        if format == Format::Parquet {
            return Ok(Self::Parquet(file));
        }
        let size = file.metadata().map_err(unreadable)?.len();
        let text: Box<dyn Read> = match compression {
            None => Box::new(file),
            // Either may be several parts one after the other, as tools for large files write them.
            Some(Compression::Gzip) => {
                let decoder = MultiGzDecoder::new(BufReader::new(file));
                Box::new(Bounded::new(decoder, size))
            }
            Some(Compression::Zstandard) => {
                let decoder = zstd::Decoder::new(file).map_err(unreadable)?;
                Box::new(Bounded::new(decoder, size))
            }
        };
        Ok(match format {
            Format::Csv => Self::Csv(text),
            _ => Self::Json(Box::new(BufReader::new(text))),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use crate::{DataConfig, LabelPolicy, Split, read_split};

    fn gzipped(content: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn compressed_texts_are_read_as_those_that_are_not() {
        let (first, second) = (
            "{\"text\": \"a\", \"label\": \"x\"}\n",
            "{\"text\": \"b\", \"label\": \"y\"}\n",
        );
        let lines = [first, second].concat();
        let array = format!("[{}]", [first, second].join(","));
        let in_frames = [first, second].map(|part| zstd::encode_all(part.as_bytes(), 1).unwrap());
        let files = [
            ("train.jsonl", lines.clone().into_bytes()),
            ("train.jsonl.gz", [gzipped(first), gzipped(second)].concat()),
            ("train.jsonl.zst", in_frames.concat()),
            ("train.json.gz", gzipped(&array)),
            (
                "train.json.zst",
                zstd::encode_all(array.as_bytes(), 1).unwrap(),
            ),
            ("train.csv.gz", gzipped("text,label\na,x\nb,y\n")),
            ("train.tsv.gz", gzipped("text\tlabel\na\tx\nb\ty\n")),
        ];
        for (name, content) in files {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), content).unwrap();
            let config = DataConfig::new("unused");
            let rows = read_split(dir.path(), Split::Train, &config, LabelPolicy::Required);
            let rows = rows.unwrap_or_else(|error| panic!("{name}: {error}"));
            let found: Vec<(&str, String)> = rows
                .iter()
                .map(|row| (row.text.as_str(), row.label.as_ref().unwrap().to_string()))
                .collect();
            let expected = [("a", "x".to_owned()), ("b", "y".to_owned())];
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_file_that_becomes_absurdly_large_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let blanks = vec![b' '; (64 << 20) + (1 << 20)];
        for name in ["train.jsonl.zst", "train.csv.zst"] {
            let path = dir.path().join(name);
            fs::write(&path, zstd::encode_all(blanks.as_slice(), 1).unwrap()).unwrap();
            let config = DataConfig::new("unused");
            let error = crate::read_file(&path, &config, LabelPolicy::Required).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(
                cause.contains("write it again without compression"),
                "{cause}"
            );
        }
    }

    #[test]
    fn a_compressed_file_that_is_damaged_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["train.jsonl.gz", "train.csv.zst"] {
            let path = dir.path().join(name);
            fs::write(&path, "no compressed data").unwrap();
            let config = DataConfig::new("unused");
            let error = crate::read_file(&path, &config, LabelPolicy::Required).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
