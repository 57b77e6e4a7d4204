//! What can happen to the bytes and to the structure of a file of tensors.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

use crate::config_mutation::json_text;
use crate::json_text::size;

const DTYPES: [&str; 9] = [
    "F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "F4",
];

/// Parts of names, which make one tensor another.
const NAMES: [&str; 31] = [
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_A.default.weight",
    ".lora_embedding_A",
    ".lora_embedding_B",
    ".lora_magnitude_vector",
    ".lora_AB.weight",
    ".lora_B.bias",
    ".lora_down.weight",
    ".lora_up.weight",
    ".lora_mid.weight",
    ".alpha",
    ".dora_scale",
    ".lora_a",
    ".lora_b",
    ".processor.to_q_lora.down.weight",
    "_lora.up.weight",
    ".vera_lambda_b",
    ".vera_A",
    ".weight",
    "unet.",
    "lora_unet_",
    "_orig_mod.",
    "module.",
    "base_model.model.",
    "_fsdp_wrapped_module.",
    ".modules_to_save.weight",
    ".original_module.weight",
    ".base_layer.weight",
    ".token_adapter.trainable_tokens_delta",
    ".token_adapter.base_layer.weight",
];

/// A change of a file of tensors.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// A byte anywhere.
    Byte(Index, u8),
    /// A byte of the header, by a digit or a sign of JSON, so that it may still be one.
    HeaderByte(Index, Index),
    Truncate(Index),
    Append(u8),
    /// The number in front of the header.
    HeaderLength(u64),
    Dtype(Index, Index),
    /// A size of a tensor, in the header alone.
    Size(Index, Index, u64),
    /// A size of a tensor, with offsets and data that fit.
    FittingSize(Index, Index, u8),
    MoreDimensions(Index, u8),
    FewerDimensions(Index),
    Offset(Index, bool, u64),
    Remove(Index),
    /// The end of a name becomes another.
    Rename(Index, Index),
    /// The same tensor once more under another name.
    Copy(Index, Index),
    Metadata(String),
    /// A number of the data that is none, or 0.
    Value(Index, Index),
}

impl Arbitrary for Mutation {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        use Mutation::*;
        let any_index = any::<Index>;
        prop_oneof![
            (any_index(), any::<u8>()).prop_map(|(at, byte)| Byte(at, byte)),
            (any_index(), any_index()).prop_map(|(at, letter)| HeaderByte(at, letter)),
            any_index().prop_map(Truncate),
            any::<u8>().prop_map(Append),
            size().prop_map(HeaderLength),
            (any_index(), any_index()).prop_map(|(tensor, dtype)| Dtype(tensor, dtype)),
            (any_index(), any_index(), size()).prop_map(|(tensor, dim, to)| Size(tensor, dim, to)),
            (any_index(), any_index(), 0..60u8)
                .prop_map(|(tensor, dim, to)| FittingSize(tensor, dim, to)),
            (any_index(), 1..4u8).prop_map(|(tensor, to)| MoreDimensions(tensor, to)),
            any_index().prop_map(FewerDimensions),
            (any_index(), any::<bool>(), size())
                .prop_map(|(tensor, end, to)| Offset(tensor, end, to)),
            any_index().prop_map(Remove),
            (any_index(), any_index()).prop_map(|(tensor, name)| Rename(tensor, name)),
            (any_index(), any_index()).prop_map(|(tensor, name)| Copy(tensor, name)),
            json_text().prop_map(Metadata),
            (any_index(), any_index()).prop_map(|(at, what)| Value(at, what)),
        ]
        .boxed()
    }
}

/// A file of tensors taken apart. Offsets are kept as they stand there until something is to fit.
struct TensorFile {
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl TensorFile {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let end = usize::try_from(length).ok()?.checked_add(8)?;
        let Ok(Value::Object(header)) = serde_json::from_slice(bytes.get(8..end)?) else {
            return None;
        };
        let data = bytes[end..].to_vec();
        Some(Self { header, data })
    }

    fn bytes(&self) -> Vec<u8> {
        let header = Value::Object(self.header.clone()).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&self.data);
        bytes
    }

    /// The name of a tensor.
    fn name(&self, index: Index) -> Option<String> {
        let names: Vec<&String> = self
            .header
            .keys()
            .filter(|key| *key != "__metadata__")
            .collect();
        (!names.is_empty()).then(|| index.get(&names).to_string())
    }

    fn shape(&mut self, index: Index) -> Option<&mut Vec<Value>> {
        let name = self.name(index)?;
        self.header.get_mut(&name)?.get_mut("shape")?.as_array_mut()
    }

    /// Gives every tensor the bytes that its shape and dtype ask for, if those are few.
    fn fit(&mut self) {
        let mut old = std::mem::take(&mut self.data);
        old.push(0);
        for (name, tensor) in &mut self.header {
            if name == "__metadata__" {
                continue;
            }
            let dtype = tensor.get("dtype").and_then(Value::as_str).unwrap_or("");
            let width = match dtype {
                "F64" | "I64" => 8,
                "F32" => 4,
                "F16" | "BF16" => 2,
                _ => 1,
            };
            let sizes = tensor.get("shape").and_then(Value::as_array);
            let count = sizes
                .into_iter()
                .flatten()
                .try_fold(width as u64, |product, size| {
                    product.checked_mul(size.as_u64()?)
                });
            let Some(count) = count.filter(|&count| count < 1 << 16) else {
                continue;
            };
            let start = self.data.len();
            self.data
                .extend(old.iter().copied().cycle().take(count as usize));
            tensor["data_offsets"] = json!([start, self.data.len()]);
        }
    }
}

pub fn changed_tensors(original: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for mutation in mutations {
        if apply_to_bytes(&mut bytes, mutation) {
            continue;
        }
        if let Some(mut file) = TensorFile::parse(&bytes)
            && apply(&mut file, mutation).is_some()
        {
            bytes = file.bytes();
        }
    }
    bytes
}

/// Whether the change is one of bare bytes.
fn apply_to_bytes(bytes: &mut Vec<u8>, mutation: &Mutation) -> bool {
    let length = bytes.len();
    match mutation {
        Mutation::Append(count) => bytes.extend((0..*count).map(|byte| byte ^ 0x5a)),
        Mutation::Byte(at, byte) if length > 0 => bytes[at.index(length)] = *byte,
        Mutation::HeaderByte(at, letter) if length > 8 => {
            let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
            let header = header.min(length as u64 - 8).max(1) as usize;
            bytes[8 + at.index(header)] = *letter.get(b"0123456789-.,:[]{}\"enul ");
        }
        Mutation::Truncate(at) if length > 0 => bytes.truncate(at.index(length)),
        Mutation::HeaderLength(to) if length >= 8 => bytes[..8].copy_from_slice(&to.to_le_bytes()),
        _ => return false,
    }
    true
}

fn apply(file: &mut TensorFile, mutation: &Mutation) -> Option<()> {
    match mutation {
        Mutation::Dtype(tensor, dtype) => {
            let name = file.name(*tensor)?;
            file.header[&name]["dtype"] = json!(dtype.get(&DTYPES));
            file.fit();
        }
        Mutation::Size(tensor, dim, to) => {
            let shape = file.shape(*tensor)?;
            if !shape.is_empty() {
                *dim.get_mut(shape) = json!(to);
            }
        }
        Mutation::FittingSize(tensor, dim, to) => {
            let shape = file.shape(*tensor)?;
            if !shape.is_empty() {
                *dim.get_mut(shape) = json!(to);
            }
            file.fit();
        }
        Mutation::MoreDimensions(tensor, to) => {
            file.shape(*tensor)?.push(json!(to));
            file.fit();
        }
        Mutation::FewerDimensions(tensor) => {
            file.shape(*tensor)?.pop();
            file.fit();
        }
        Mutation::Offset(tensor, is_end, to) => {
            let name = file.name(*tensor)?;
            let offsets = file.header[&name].get_mut("data_offsets")?.as_array_mut()?;
            *offsets.get_mut(usize::from(*is_end))? = json!(to);
        }
        Mutation::Remove(tensor) => {
            let name = file.name(*tensor)?;
            file.header.shift_remove(&name);
            file.fit();
        }
        Mutation::Rename(tensor, ending) => {
            let name = file.name(*tensor)?;
            let moved = file.header.shift_remove(&name)?;
            file.header.insert(renamed(&name, *ending), moved);
            file.fit();
        }
        Mutation::Copy(tensor, ending) => {
            let name = file.name(*tensor)?;
            let copy = file.header[&name].clone();
            file.header.insert(renamed(&name, *ending), copy);
            file.fit();
        }
        Mutation::Metadata(text) => {
            let metadata = json!({"lora_adapter_metadata": text, "ss_base_model_version": text});
            file.header.insert("__metadata__".to_owned(), metadata);
        }
        Mutation::Value(at, what) => {
            if file.data.len() < 4 {
                return None;
            }
            let start = at.index(file.data.len() - 3);
            let value = *what.get(&[f32::NAN, f32::INFINITY, 0.0, f32::MAX]);
            file.data[start..start + 4].copy_from_slice(&value.to_le_bytes());
        }
        _ => return None,
    }
    Some(())
}

/// A name with another ending, or with another beginning.
fn renamed(name: &str, ending: Index) -> String {
    let other = *ending.get(&NAMES);
    if other.ends_with(['.', '_']) {
        return format!("{other}{name}");
    }
    let stem = ["lora", "vera", "alpha"]
        .iter()
        .filter_map(|mark| name.rfind(mark))
        .min()
        .unwrap_or(name.len());
    format!("{}{other}", name[..stem].trim_end_matches(['.', '_']))
}
