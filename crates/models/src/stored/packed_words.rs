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

/// Which of eight neighbouring columns is in each place of one of AWQ's words.
const AWQ_ORDER: [usize; CODES] = [0, 2, 4, 6, 1, 3, 5, 7];

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
            None => Err(ModelError::MissingTensor { name }),
        }
    }

    fn shape(&self) -> Result<&[usize], ModelError> {
        Ok(self.0.shape(&self.1)?)
    }

    fn words(&self) -> Result<Vec<u32>, ModelError> {
        let words = self.0.read_i64(&self.1)?;
        // Of signed words the bits count.
        Ok(words.into_iter().map(|word| word as u32).collect())
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
            Some(size) if size > 0 => Some(size as usize),
            found => return Err(refused(format!("its group_size is {found:?}"))),
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
        let shape = match scheme.kind {
            Kind::Gptq { .. } => [cols, rows * CODES],
            Kind::Awq => [cols * CODES, rows],
            Kind::Mlx => [rows, cols * CODES],
        };
        let [d_out, d_in] = shape;
        let group = scheme.group.unwrap_or(d_in).max(1);
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
        for part in [&codes, &zeros] {
            let (_, dtype) = part.0.tensor(&part.1)?;
            let is_word = matches!(dtype, Dtype::I32 | Dtype::U32);
            let is_offset = scheme.kind == Kind::Mlx && part.1 == zeros.1;
            if !is_word && !is_offset {
                return Err(malformed(format!(
                    "`{}` is {dtype}; expected words of 32 bits",
                    part.1
                )));
            }
        }
        if let Some(part) = &groups_of_inputs {
            let found = part.words()?;
            if found.len() != d_in || found.iter().any(|&group| group as usize >= groups) {
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
        let [d_out, d_in] = self.shape;
        let groups = d_in.div_ceil(self.group);
        let name = self.kind.name();
        let (codes, factors) = match self.kind {
            Kind::Mlx => {
                // The lowest bits of a word come first, as the lowest byte does.
                let codes = self.codes.0.bytes(&self.codes.1)?;
                (codes, [self.scales.floats()?, self.zeros.floats()?])
            }
            Kind::Gptq { .. } | Kind::Awq => {
                let (words, zeros) = (self.codes.words()?, self.zeros.words()?);
                let mut codes = vec![0u8; d_out * d_in / 2];
                let mut put = |output: usize, input: usize, code: u32| {
                    codes[(output * d_in + input) / 2] |= (code as u8 & 15) << (input % 2 * 4);
                };
                for (index, &word) in words.iter().enumerate() {
                    for (place, of_order) in AWQ_ORDER.into_iter().enumerate() {
                        let code = word >> (4 * place);
                        match self.kind {
                            Kind::Awq => {
                                let (input, block) =
                                    (index / (d_out / CODES), index % (d_out / CODES));
                                put(block * CODES + of_order, input, code);
                            }
                            _ => put(index % d_out, index / d_out * CODES + place, code),
                        }
                    }
                }
                let stored = self.scales.floats()?;
                let (mut scales, mut offsets) =
                    (vec![0.0; d_out * groups], vec![0.0; d_out * groups]);
                for group in 0..groups {
                    for output in 0..d_out {
                        let (block, column) = (output / CODES, output % CODES);
                        let place = match self.kind {
                            Kind::Awq => AWQ_ORDER
                                .iter()
                                .position(|&found| found == column)
                                .unwrap_or(0),
                            _ => column,
                        };
                        let word = zeros[group * d_out.div_ceil(CODES) + block];
                        let offset = match self.kind {
                            Kind::Gptq { zero_offset } => zero_offset,
                            Kind::Awq | Kind::Mlx => 0,
                        };
                        let zero = (((word >> (4 * place)) + offset) & 15) as f32;
                        let scale = stored[group * d_out + output];
                        scales[output * groups + group] = scale;
                        offsets[output * groups + group] = -scale * zero;
                    }
                }
                (codes.into(), [scales, offsets])
            }
        };
        let group_of = self.group_of()?;
        GroupedMatrix::new(name, self.shape, codes, self.group, factors, group_of)
            .map_err(ModelError::encoded(&self.name))
    }

    /// The group of each input, where they are not one after the other.
    fn group_of(&self) -> Result<Option<Vec<u32>>, ModelError> {
        let Some(part) = &self.groups_of_inputs else {
            return Ok(None);
        };
        let found = part.words()?;
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
