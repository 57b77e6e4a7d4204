//! Four-bit weights in words of 32 bits with a scale and a zero for each group of inputs: what GPTQ and
//! AWQ tools and MLX save.

use std::sync::Arc;

use eigenmix_quant::{EncodedMatrix, GroupedMatrix};
use eigenmix_tensors::{Dtype, TensorFile};
use serde_json::Value;

use super::{Files, StoredSize, StoredTensor, StoredTensors};
use crate::ModelError;

/// Codes in a word.
const CODES: usize = 8;

/// In which place of one of AWQ's words each of eight neighbouring columns is.
const AWQ_PLACES: [usize; CODES] = [0, 4, 1, 5, 2, 6, 3, 7];

/// What a configuration says of the words.
struct Scheme {
    kind: Kind,
    /// How many inputs share a scale; `None` for all of them.
    group: Option<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Words along the inputs: `qweight` `[d_in / 8, d_out]`, `qzeros` `[groups, d_out / 8]`, `scales`
    /// `[groups, d_out]`, and perhaps `g_idx` `[d_in]`. Zeros are stored less `zero_offset`, in four bits.
    Gptq { zero_offset: u32 },
    /// Words along the outputs: `qweight` `[d_in, d_out / 8]`, `qzeros`, `scales` as above.
    Awq,
    /// `weight` `[d_out, d_in / 8]`, `scales` and `biases` `[d_out, groups]`.
    Mlx,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Gptq { .. } => "GPTQ",
            Self::Awq => "AWQ",
            Self::Mlx => "MLX 4-bit",
        }
    }
}

/// A matrix in words, and the tensors that give it meaning.
struct Words {
    kind: Kind,
    name: String,
    shape: [usize; 2],
    group: usize,
    codes: Part,
    scales: Part,
    /// Zeros in words, or offsets in half precision.
    zeros: Part,
    groups_of_inputs: Option<Part>,
}

struct Part(Arc<TensorFile>, String);

impl Part {
    fn take(files: &mut Files, name: String) -> Result<Self, ModelError> {
        match files.remove(&name) {
            Some(file) => Ok(Self(file, name)),
            None => Err(ModelError::MissingPart { name }),
        }
    }

    fn shape(&self) -> Result<&[usize], ModelError> {
        Ok(self.0.shape(&self.1)?)
    }

    /// Of signed words the bits count.
    fn words(&self) -> Result<Vec<u32>, ModelError> {
        let (words, _) = self.0.view(&self.1)?.as_chunks();
        Ok(words.iter().map(|&word| u32::from_le_bytes(word)).collect())
    }

    fn floats(&self) -> Result<Vec<f32>, ModelError> {
        Ok(self.0.read_f32(&self.1)?)
    }

    fn bytes(&self) -> Result<usize, ModelError> {
        Ok(self.0.view(&self.1)?.len())
    }
}

/// Takes the matrices in words.
pub(super) fn packed_words(
    files: &mut Files,
    config: &Value,
    tensors: &mut StoredTensors,
) -> Result<(), ModelError> {
    let Some(scheme) = Scheme::of(config)? else {
        return Ok(());
    };
    let codes = match scheme.kind {
        Kind::Mlx => ".scales",
        Kind::Gptq { .. } | Kind::Awq => ".qweight",
    };
    let modules: Vec<String> = files
        .keys()
        .filter_map(|name| name.strip_suffix(codes).map(str::to_owned))
        .collect();
    for module in modules {
        let words = Words::take(files, &scheme, &module)?;
        tensors.insert(words.name.clone(), Box::new(words));
    }
    Ok(())
}

impl Scheme {
    /// Nothing if the configuration speaks of none of these.
    fn of(config: &Value) -> Result<Option<Self>, ModelError> {
        let refused = |problem: String| ModelError::QuantisedTensor {
            name: "quantization_config".to_owned(),
            problem,
        };
        let of = |field: &str| config.get(field).filter(|found| found.is_object());
        let (mlx, other) = (of("quantization"), of("quantization_config"));
        let method = other.and_then(|other| other.get("quant_method"));
        let (table, kind) = match (method.and_then(Value::as_str), mlx, other) {
            (Some("gptq"), _, Some(table)) => {
                let format = table.get("checkpoint_format").and_then(Value::as_str);
                let zero_offset = match format.unwrap_or("gptq") {
                    "gptq" => 1,
                    "gptq_v2" => 0,
                    other => {
                        return Err(refused(format!(
                            "its checkpoint_format is `{other}`; gptq and gptq_v2 are read"
                        )));
                    }
                };
                (table, Kind::Gptq { zero_offset })
            }
            (Some("awq"), _, Some(table)) => (table, Kind::Awq),
            (None, Some(table), _) => (table, Kind::Mlx),
            _ => return Ok(None),
        };
        let number = |names: [&str; 2]| names.iter().find_map(|name| table.get(name)?.as_i64());
        match number(["bits", "w_bit"]) {
            Some(4) => {}
            found => {
                return Err(refused(format!(
                    "it has {} bits; four are read",
                    found.map_or("no number of".to_owned(), |bits| bits.to_string())
                )));
            }
        }
        let text = |name: &str| table.get(name).and_then(Value::as_str);
        if kind == Kind::Awq
            && let Some(version) =
                text("version").filter(|version| !version.eq_ignore_ascii_case("gemm"))
        {
            return Err(refused(format!(
                "its words are in AWQ's order `{version}`; gemm is read"
            )));
        }
        if kind == Kind::Mlx
            && let Some(mode) = text("mode").filter(|&mode| mode != "affine")
        {
            return Err(refused(format!("MLX's mode is `{mode}`; affine is read")));
        }
        // MLX names layers that have other bits here, each with a table of its own.
        let entries = table.as_object().into_iter().flatten();
        for (name, entry) in entries.filter(|(_, entry)| entry.is_object()) {
            let differs = |field: &str| {
                entry
                    .get(field)
                    .is_some_and(|found| Some(found) != table.get(field))
            };
            if kind == Kind::Mlx && (differs("bits") || differs("group_size")) {
                return Err(refused(format!(
                    "`{name}` has other bits or groups than the rest; one kind for all is read"
                )));
            }
        }
        let group = match number(["group_size", "q_group_size"]) {
            Some(-1) => None,
            Some(size) if size > 0 && size % 2 == 0 => Some(size as usize),
            found => {
                return Err(refused(format!(
                    "its group_size is {}; an even number is read, or -1 for all inputs",
                    found.map_or("missing".to_owned(), |size| size.to_string())
                )));
            }
        };
        Ok(Some(Self { kind, group }))
    }
}

impl Words {
    fn take(files: &mut Files, scheme: &Scheme, module: &str) -> Result<Self, ModelError> {
        let name = format!("{module}.weight");
        let mut part = |suffix: &str| Part::take(files, format!("{module}.{suffix}"));
        let (codes, zeros) = match scheme.kind {
            Kind::Mlx => (part("weight")?, part("biases")?),
            Kind::Gptq { .. } | Kind::Awq => (part("qweight")?, part("qzeros")?),
        };
        let scales = part("scales")?;
        let groups_of_inputs = part("g_idx").ok();
        let malformed = |problem: String| ModelError::QuantisedTensor {
            name: name.clone(),
            problem,
        };
        let &[rows, cols] = codes.shape()? else {
            return Err(malformed(format!(
                "its words have the shape {:?}",
                codes.shape()?
            )));
        };
        let codes_of = |words: usize| {
            let codes = words.checked_mul(CODES).filter(|&codes| codes > 0);
            codes.ok_or_else(|| malformed(format!("its words have the shape [{rows}, {cols}]")))
        };
        let shape = match scheme.kind {
            Kind::Gptq { .. } => [cols, codes_of(rows)?],
            Kind::Awq => [codes_of(cols)?, rows],
            Kind::Mlx => [rows, codes_of(cols)?],
        };
        let [d_out, d_in] = shape;
        if d_out == 0 || d_in == 0 || d_in % 2 != 0 {
            return Err(malformed(format!(
                "it has {d_out} outputs of {d_in} inputs"
            )));
        }
        let group = scheme.group.unwrap_or(d_in).min(d_in);
        let groups = d_in.div_ceil(group);
        let (of_scales, of_zeros) = match scheme.kind {
            Kind::Mlx => ([d_out, groups], [d_out, groups]),
            Kind::Gptq { .. } | Kind::Awq => ([groups, d_out], [groups, d_out.div_ceil(CODES)]),
        };
        for (part, expected) in [(&scales, of_scales), (&zeros, of_zeros)] {
            if part.shape()? != expected {
                return Err(malformed(format!(
                    "`{}` has the shape {:?}, expected {expected:?} for groups of {group}",
                    part.1,
                    part.shape()?
                )));
            }
        }
        let is_word = |dtype| matches!(dtype, Dtype::I32 | Dtype::U32);
        let is_float = |dtype| matches!(dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32);
        let zeros_are_words = scheme.kind != Kind::Mlx;
        for (part, is_words) in [(&codes, true), (&scales, false), (&zeros, zeros_are_words)] {
            let (_, dtype) = part.0.tensor(&part.1)?;
            let (fits, expected) = match is_words {
                true => (is_word(dtype), "words of 32 bits"),
                false => (is_float(dtype), "f16, bf16 or f32"),
            };
            if !fits {
                return Err(malformed(format!(
                    "`{}` is {dtype}; expected {expected}",
                    part.1
                )));
            }
        }
        if let Some(part) = &groups_of_inputs {
            let found = part.0.read_i64(&part.1)?;
            let is_group = |group: &i64| usize::try_from(*group).is_ok_and(|group| group < groups);
            if found.len() != d_in || !found.iter().all(is_group) {
                return Err(malformed(format!(
                    "`{}` does not give each of {d_in} inputs one of {groups} groups",
                    part.1
                )));
            }
        }
        Ok(Self {
            kind: scheme.kind,
            name,
            shape,
            group,
            codes,
            scales,
            zeros,
            groups_of_inputs,
        })
    }

    /// The codes as [`GroupedMatrix`] has them, scales and offsets as `[d_out, groups]`.
    fn matrix(&self) -> Result<GroupedMatrix, ModelError> {
        let (codes, factors) = match self.kind {
            // The lowest bits of a word come first, as the lowest byte does.
            Kind::Mlx => (
                self.codes.0.bytes(&self.codes.1)?,
                [self.scales.floats()?, self.zeros.floats()?],
            ),
            Kind::Gptq { zero_offset } => {
                let places = std::array::from_fn(|column| column);
                (
                    self.gptq_codes()?.into(),
                    self.factors(places, zero_offset)?,
                )
            }
            Kind::Awq => (self.awq_codes()?.into(), self.factors(AWQ_PLACES, 0)?),
        };
        let (name, group_of) = (self.kind.name(), self.group_of()?);
        GroupedMatrix::new(name, self.shape, codes, self.group, factors, group_of)
            .map_err(ModelError::encoded(&self.name))
    }

    /// A word is eight successive inputs of an output, and so four bytes of its row.
    fn gptq_codes(&self) -> Result<Vec<u8>, ModelError> {
        let [d_out, d_in] = self.shape;
        let words = self.codes.words()?;
        let mut codes = vec![0; d_out * d_in / 2];
        for (output, row) in codes.chunks_exact_mut(d_in / 2).enumerate() {
            let (blocks, _) = row.as_chunks_mut();
            for (block, bytes) in blocks.iter_mut().enumerate() {
                *bytes = words[block * d_out + output].to_le_bytes();
            }
        }
        Ok(codes)
    }

    /// A word is eight successive outputs of an input, in AWQ's order.
    fn awq_codes(&self) -> Result<Vec<u8>, ModelError> {
        let [d_out, d_in] = self.shape;
        let words = self.codes.words()?;
        let blocks = d_out / CODES;
        let mut codes = vec![0; d_out * d_in / 2];
        for (output, row) in codes.chunks_exact_mut(d_in / 2).enumerate() {
            let (block, shift) = (output / CODES, 4 * AWQ_PLACES[output % CODES]);
            let code = |input: usize| ((words[input * blocks + block] >> shift) & 15) as u8;
            for (pair, byte) in row.iter_mut().enumerate() {
                *byte = code(2 * pair) | code(2 * pair + 1) << 4;
            }
        }
        Ok(codes)
    }

    /// Scales, and −scale · zero.
    ///
    /// - places: of eight columns in a word of zeros
    fn factors(
        &self,
        places: [usize; CODES],
        zero_offset: u32,
    ) -> Result<[Vec<f32>; 2], ModelError> {
        let [d_out, d_in] = self.shape;
        let (groups, words) = (d_in.div_ceil(self.group), d_out.div_ceil(CODES));
        let (stored, zeros) = (self.scales.floats()?, self.zeros.words()?);
        let mut factors = [vec![0.0; d_out * groups], vec![0.0; d_out * groups]];
        for output in 0..d_out {
            let shift = 4 * places[output % CODES];
            for group in 0..groups {
                let code = (zeros[group * words + output / CODES] >> shift) & 15;
                let zero = ((code + zero_offset) & 15) as f32;
                let scale = stored[group * d_out + output];
                factors[0][output * groups + group] = scale;
                factors[1][output * groups + group] = -scale * zero;
            }
        }
        Ok(factors)
    }

    /// The group of each input, where they are not one after the other.
    fn group_of(&self) -> Result<Option<Vec<u32>>, ModelError> {
        let Some(part) = &self.groups_of_inputs else {
            return Ok(None);
        };
        let found = part.0.read_i64(&part.1)?;
        let found: Vec<u32> = found.into_iter().map(|group| group as u32).collect();
        let in_order = found
            .iter()
            .enumerate()
            .all(|(input, &group)| group as usize == input / self.group);
        Ok((!in_order).then_some(found))
    }
}

impl StoredTensor for Words {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn read(&self) -> Result<Vec<f32>, ModelError> {
        Ok(EncodedMatrix::from(self.matrix()?).to_f32())
    }

    fn encoded(&self) -> Result<Option<EncodedMatrix>, ModelError> {
        Ok(Some(self.matrix()?.into()))
    }

    fn stored(&self) -> Result<StoredSize, ModelError> {
        let parts = [&self.codes, &self.scales, &self.zeros];
        let mut bytes = 0;
        for part in parts.into_iter().chain(&self.groups_of_inputs) {
            bytes += part.bytes()?;
        }
        let form = self.kind.name();
        Ok(StoredSize { form, bytes })
    }

    /// Codes, and scales and offsets in f32.
    fn encoded_size(&self) -> Option<usize> {
        let [d_out, d_in] = self.shape;
        let groups = d_in.div_ceil(self.group);
        let order = self.group_of().ok()?.map_or(0, |order| order.len());
        let factors = 2 * d_out * groups + order;
        Some(d_out * d_in / 2 + factors * size_of::<f32>())
    }
}
