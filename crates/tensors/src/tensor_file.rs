//! A safetensors file from any source: mapped into memory, checked, read tensor by tensor.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use sha2::{Digest, Sha256};

use crate::FileError;

/// The bytes in front of the header: its length as a little-endian u64.
const LENGTH_BYTES: u64 = 8;

/// The longest header that the safetensors format allows.
const HEADER_LIMIT: u64 = 100_000_000;

const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// An open safetensors file of which only the header has been read, or several that are read as one.
pub struct TensorFile {
    path: PathBuf,
    /// At least one.
    parts: Vec<Part>,
    /// Which part has a tensor, and where.
    tensors: BTreeMap<String, (usize, TensorInfo)>,
    metadata: BTreeMap<String, String>,
}

/// A tensor of a file of another format: its values row-major and little-endian, as safetensors has them.
#[derive(Clone, Debug)]
pub struct HeldTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub bytes: Bytes,
}

/// One file, mapped, or a tensor of one.
struct Part {
    bytes: Bytes,
    data_start: usize,
    /// Whether the bytes are those of a whole file.
    is_file: bool,
    /// The map that the bytes are in, if they are in one.
    map: Option<Arc<Mmap>>,
}

/// The owner of the bytes of a map.
struct Mapped(Arc<Mmap>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl TensorFile {
    /// Opens and maps a safetensors file and checks its header against its length.
    ///
    /// # Errors
    /// If there is no such file, it is a Git LFS pointer, it is shorter or longer than its header
    /// says, or the header is malformed. No tensor is read.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let file = File::open(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => FileError::NotFound(path.to_owned()),
            _ => FileError::io("open", path)(source),
        })?;
        let found = file.metadata().map_err(FileError::io("read", path))?;
        if !found.is_file() {
            return Err(FileError::NotAFile(path.to_owned()));
        }
        let found = found.len();
        let truncated = |expected| FileError::Truncated {
            path: path.to_owned(),
            expected,
            found,
        };
        if found < LENGTH_BYTES {
            return Err(truncated(LENGTH_BYTES));
        }
        // SAFETY: the map is read-only and private to this value. If another process shrinks the file
        // meanwhile, reading fails with a signal; every program that maps files accepts that, and our
        // own output never shrinks a file but replaces it.
        let bytes = unsafe { Mmap::map(&file) }.map_err(FileError::io("map", path))?;
        if bytes.starts_with(LFS_POINTER) {
            return Err(FileError::LfsPointer(path.to_owned()));
        }

        let (length, rest) = bytes
            .split_first_chunk()
            .ok_or_else(|| truncated(LENGTH_BYTES))?;
        let header_bytes = u64::from_le_bytes(*length);
        if header_bytes > HEADER_LIMIT {
            return Err(FileError::HeaderTooLarge {
                path: path.to_owned(),
                found: header_bytes,
                limit: HEADER_LIMIT,
            });
        }
        // Fits: the limit is far below the range of every usize that maps files.
        let header = rest
            .get(..header_bytes as usize)
            .ok_or_else(|| truncated(LENGTH_BYTES + header_bytes))?;
        // Checks dtypes, and that shapes fill offsets and offsets follow each other from 0. What it
        // does not do without overflowing is the comparison with the length of the file.
        let metadata: Metadata =
            serde_json::from_slice(header).map_err(|source| FileError::MalformedHeader {
                path: path.to_owned(),
                source,
            })?;
        let expected = (metadata.data_len() as u64).saturating_add(LENGTH_BYTES + header_bytes);
        if expected > found {
            return Err(truncated(expected));
        }
        if expected < found {
            return Err(FileError::TrailingBytes {
                path: path.to_owned(),
                expected,
                found,
            });
        }

        let notes = metadata.metadata().iter().flatten();
        let notes = notes
            .map(|(key, text)| (key.clone(), text.clone()))
            .collect();
        let data_start = (LENGTH_BYTES + header_bytes) as usize;
        let tensors = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| (name, (0, info.clone())))
            .collect();
        Ok(Self {
            path: path.to_owned(),
            parts: vec![Part::mapped(bytes, data_start)],
            tensors,
            metadata: notes,
        })
    }

    /// The tensors of a file of another format, read as those of a safetensors file are.
    ///
    /// - files: the bytes of the file, or of its parts
    ///
    /// # Panics
    /// If a tensor does not have the bytes of its shape and dtype.
    pub fn of_other_format(
        path: &Path,
        files: &[Bytes],
        tensors: impl IntoIterator<Item = HeldTensor>,
        metadata: BTreeMap<String, String>,
    ) -> Self {
        let part = |bytes: Bytes, is_file| Part {
            bytes,
            data_start: 0,
            is_file,
            map: None,
        };
        let mut result = Self {
            path: path.to_owned(),
            parts: files
                .iter()
                .map(|bytes| part(bytes.clone(), true))
                .collect(),
            tensors: BTreeMap::new(),
            metadata,
        };
        for tensor in tensors {
            let (name, info, bytes) = tensor.into_parts();
            result.tensors.insert(name, (result.parts.len(), info));
            result.parts.push(part(bytes, false));
        }
        result
    }

    /// Tensors that were made of the bytes of this file, under other names and in other shapes.
    ///
    /// # Panics
    /// If a tensor does not have the bytes of its shape and dtype.
    pub fn relabelled(&self, tensors: impl IntoIterator<Item = HeldTensor>) -> Self {
        let mut result = Self {
            path: self.path.clone(),
            parts: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
        };
        for tensor in tensors {
            let (name, info, bytes) = tensor.into_parts();
            let mut maps = self.parts.iter().filter_map(|part| part.map.as_ref());
            let map = maps.find(|map| place_in(map, &bytes).is_some()).cloned();
            result.tensors.insert(name, (result.parts.len(), info));
            result.parts.push(Part {
                bytes,
                data_start: 0,
                is_file: false,
                map,
            });
        }
        result
    }

    /// This shard and another one of the same set of tensors, to be read as if they were one file. Its
    /// path is that of this one.
    ///
    /// # Errors
    /// If both have a tensor of the same name.
    pub fn joined_with(mut self, shard: Self) -> Result<Self, FileError> {
        let offset = self.parts.len();
        for (name, (part, info)) in shard.tensors {
            if self.tensors.contains_key(&name) {
                return Err(FileError::TensorTwice {
                    path: shard.path,
                    tensor: name,
                });
            }
            self.tensors.insert(name, (part + offset, info));
        }
        self.parts.extend(shard.parts);
        self.metadata.extend(shard.metadata);
        Ok(self)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata of the header (`__metadata__`).
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn shape(&self, name: &str) -> Result<&[usize], FileError> {
        Ok(&self.info(name)?.shape)
    }

    /// The shape and dtype of a tensor.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn tensor(&self, name: &str) -> Result<(Vec<usize>, Dtype), FileError> {
        let info = self.info(name)?;
        Ok((info.shape.clone(), info.dtype))
    }

    /// The bytes of a tensor as they lie in the file: row-major, little-endian, of any alignment.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn view(&self, name: &str) -> Result<&[u8], FileError> {
        let (bytes, place) = self.place(name)?;
        Ok(&bytes[place])
    }

    /// The same bytes, which stay mapped for as long as they are held.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn bytes(&self, name: &str) -> Result<Bytes, FileError> {
        let (bytes, place) = self.place(name)?;
        Ok(bytes.slice(place))
    }

    /// The file that has a tensor, and where the tensor's bytes are in it.
    fn place(&self, name: &str) -> Result<(&Bytes, Range<usize>), FileError> {
        let (part, info) = self.entry(name)?;
        let (start, end) = info.data_offsets;
        let Part {
            bytes, data_start, ..
        } = &self.parts[*part];
        Ok((bytes, data_start + start..data_start + end))
    }

    /// The values of a tensor of f32, f16, bf16 or f64 as f32, row-major. The memory that a large one took
    /// of the mapped file is given back: the values would be there twice.
    ///
    /// # Errors
    /// If there is none of that name, or it does not have a floating-point dtype.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, FileError> {
        let bytes = self.view(name)?;
        let (part, info) = self.entry(name)?;
        let read = match info.dtype {
            Dtype::F32 => values(bytes, f32::from_le_bytes),
            Dtype::F16 => values(bytes, |pair| f16::from_le_bytes(pair).to_f32()),
            Dtype::BF16 => values(bytes, |pair| bf16::from_le_bytes(pair).to_f32()),
            Dtype::F64 => values(bytes, |eight| f64::from_le_bytes(eight) as f32),
            found => return Err(self.dtype_error(name, "f32, f16, bf16 or f64", found)),
        };
        self.parts[*part].release(bytes);
        Ok(read)
    }

    /// Like [`TensorFile::read_f32`], for tensors in which a NaN or an infinity is a defect.
    ///
    /// # Errors
    /// Also if a value is not finite (as f32), naming the tensor and the position.
    pub fn read_finite_f32(&self, name: &str) -> Result<Vec<f32>, FileError> {
        let values = self.read_f32(name)?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(position) => Err(FileError::NotFinite {
                path: self.path.clone(),
                tensor: name.to_owned(),
                value: values[position],
                position,
            }),
        }
    }

    /// The values of a tensor of integers or booleans as i64, row-major.
    ///
    /// # Errors
    /// If there is none of that name, or it holds anything but signed integers, unsigned integers of
    /// up to 32 bits, or booleans.
    pub fn read_i64(&self, name: &str) -> Result<Vec<i64>, FileError> {
        let bytes = self.view(name)?;
        Ok(match self.info(name)?.dtype {
            Dtype::I64 => values(bytes, i64::from_le_bytes),
            Dtype::I32 => values(bytes, |four| i64::from(i32::from_le_bytes(four))),
            Dtype::U32 => values(bytes, |four| i64::from(u32::from_le_bytes(four))),
            Dtype::I16 => values(bytes, |pair| i64::from(i16::from_le_bytes(pair))),
            Dtype::U16 => values(bytes, |pair| i64::from(u16::from_le_bytes(pair))),
            Dtype::I8 => values(bytes, |one| i64::from(i8::from_le_bytes(one))),
            Dtype::U8 | Dtype::BOOL => values(bytes, |[one]| i64::from(one)),
            found => return Err(self.dtype_error(name, "an integer type", found)),
        })
    }

    /// The SHA-256 of the whole file, in hexadecimal; of shards, of one after the other.
    pub fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        for part in self.parts.iter().filter(|part| part.is_file) {
            digest.update(&part.bytes);
        }
        format!("{:x}", digest.finalize())
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, FileError> {
        Ok(&self.entry(name)?.1)
    }

    fn entry(&self, name: &str) -> Result<&(usize, TensorInfo), FileError> {
        self.tensors
            .get(name)
            .ok_or_else(|| FileError::NoSuchTensor {
                path: self.path.clone(),
                tensor: name.to_owned(),
            })
    }

    fn dtype_error(&self, name: &str, expected: &'static str, found: Dtype) -> FileError {
        FileError::TensorDtype {
            path: self.path.clone(),
            tensor: name.to_owned(),
            expected,
            found,
        }
    }
}

impl HeldTensor {
    /// # Panics
    /// If it does not have the bytes of its shape and dtype.
    fn into_parts(self) -> (String, TensorInfo, Bytes) {
        let Self {
            name,
            shape,
            dtype,
            bytes,
        } = self;
        let bits = shape.iter().product::<usize>() * dtype.bitsize();
        assert_eq!(bits, bytes.len() * 8, "tensor `{name}` {shape:?}");
        let data_offsets = (0, bytes.len());
        let info = TensorInfo {
            dtype,
            shape,
            data_offsets,
        };
        (name, info, bytes)
    }
}

impl Part {
    /// A whole file.
    fn mapped(map: Mmap, data_start: usize) -> Self {
        let map = Arc::new(map);
        Self {
            bytes: Bytes::from_owner(Mapped(map.clone())),
            data_start,
            is_file: true,
            map: Some(map),
        }
    }

    /// Gives back the memory of bytes that were read, if they are of a mapped file and many: they are read
    /// from the file again should anybody ask.
    fn release(&self, read: &[u8]) {
        /// Fewer cost more calls than they take memory.
        const MANY: usize = 1 << 20;
        #[cfg(unix)]
        if let Some(map) = self.map.as_ref().filter(|_| read.len() >= MANY)
            && let Some(start) = place_in(map, read)
        {
            // SAFETY: the pages are those of a file that is mapped for reading, so that they come back with
            // the same values. That it does not work is no harm.
            let _ =
                unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, read.len()) };
        }
        #[cfg(not(unix))]
        let _ = (read, MANY);
    }
}

/// Where bytes are in a map, if they are.
fn place_in(map: &Mmap, bytes: &[u8]) -> Option<usize> {
    let (all, some) = (map.as_ptr_range(), bytes.as_ptr_range());
    let is_within = all.start <= some.start && some.end <= all.end;
    is_within.then(|| some.start as usize - all.start as usize)
}

impl std::fmt::Debug for TensorFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TensorFile")
            .field("path", &self.path)
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

/// The header has been checked, so `bytes` is a whole number of elements.
fn values<const WIDTH: usize, T>(bytes: &[u8], decode: impl Fn([u8; WIDTH]) -> T) -> Vec<T> {
    let (elements, _) = bytes.as_chunks::<WIDTH>();
    elements.iter().map(|&element| decode(element)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TensorOutput, write_tensor_file};

    #[test]
    fn a_large_tensor_may_be_read_again_and_under_another_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("large.safetensors");
        let written: Vec<f32> = (0..600_000).map(|index| index as f32).collect();
        let outputs = ["a", "b"].map(|name| TensorOutput::f32(name, vec![600, 1000], &written));
        write_tensor_file(&path, outputs.into()).expect("a file");
        let file = TensorFile::open(&path).expect("a file");
        let half = file.bytes("b").expect("bytes").slice(1_200_000..);
        let renamed = file.relabelled([HeldTensor {
            name: "half".into(),
            shape: vec![300, 1000],
            dtype: Dtype::F32,
            bytes: half,
        }]);
        for _ in 0..2 {
            assert_eq!(file.read_f32("a").expect("values"), written);
            assert_eq!(file.read_f32("b").expect("values"), written);
            assert_eq!(
                renamed.read_f32("half").expect("values"),
                written[300_000..]
            );
        }
    }
}
