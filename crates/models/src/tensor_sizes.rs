//! What the tensors of a checkpoint take: in its files, and in a model of them on the CPU.

use std::collections::BTreeMap;

use crate::holding::{Holding, Role};
use crate::stored::StoredTensor;
use crate::trained_tables::is_output_weight;
use crate::{Architecture, Checkpoint, HeadKind, LinearLayer, ModelError, Precision};

/// Bytes of a value in f32.
const WIDE: u64 = size_of::<f32>() as u64;

/// A part of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelPart {
    /// The table of tokens, which may be the output layer too.
    TokenTable,
    Attention,
    FeedForward,
    /// The output layer of a language model, where it is a tensor of its own.
    OutputLayer,
    /// The linear layers of another head.
    Head,
    /// Norms, and whatever else is not a linear layer of these.
    Rest,
    /// What the files have and the model does not: another task's head, a copy of a tied table.
    Unused,
}

impl ModelPart {
    /// In the order of a model.
    pub const ALL: [Self; 7] = [
        Self::TokenTable,
        Self::Attention,
        Self::FeedForward,
        Self::Rest,
        Self::OutputLayer,
        Self::Head,
        Self::Unused,
    ];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TokenTable => "token table",
            Self::Attention => "attention",
            Self::FeedForward => "feed-forward",
            Self::Rest => "norms and the rest",
            Self::OutputLayer => "output layer",
            Self::Head => "head",
            Self::Unused => "not used",
        }
    }
}

/// What one tensor takes.
#[derive(Clone, Debug)]
pub struct TensorSize {
    /// Of the model, not of the file of it.
    pub name: String,
    pub part: ModelPart,
    /// What people call the form in which it is stored, such as `BF16`, `Q4_K` or `NF4`.
    pub form: &'static str,
    /// Whether it has fewer bits than the model was trained in.
    pub is_quantised: bool,
    pub parameters: u64,
    /// In the files, with everything that gives codes their meaning.
    pub stored: u64,
    /// In memory for each precision, in the order of [`Precision::NAMES`].
    held: [u64; Precision::NAMES.len()],
}

impl TensorSize {
    /// How many bytes a model on the CPU takes for it; nothing if it does not use it.
    pub fn held(&self, precision: Precision) -> u64 {
        let mut known = Precision::NAMES.iter().zip(self.held);
        known
            .find_map(|((_, known), bytes)| (*known == precision).then_some(bytes))
            .unwrap_or(0)
    }
}

/// What the tensors of a checkpoint take.
#[derive(Clone, Debug)]
pub struct TensorSizes(pub Vec<TensorSize>);

impl TensorSizes {
    /// Takes stock of a checkpoint; nothing is decoded.
    ///
    /// - head: that of the model
    ///
    /// # Errors
    /// If the model cannot have that head, or a file has changed since it was opened.
    pub fn of(
        checkpoint: &Checkpoint,
        architecture: &Architecture,
        head: HeadKind,
    ) -> Result<Self, ModelError> {
        let description = architecture.describe(head)?;
        let prefix = format!("{}.", description.prefix);
        let is_prefixed = checkpoint.names().any(|name| name.starts_with(&prefix));
        // Both names under which a checkpoint may have the tensor of a layer.
        let layers: BTreeMap<&str, &LinearLayer> = description
            .layers
            .iter()
            .flat_map(|layer| {
                let bare = layer.path.strip_prefix(&prefix);
                [Some(layer.path.as_str()), bare.filter(|_| !is_prefixed)]
                    .into_iter()
                    .flatten()
                    .map(move |path| (path, layer))
            })
            .collect();
        let table = architecture.token_table();
        let place = |name: &str| -> (ModelPart, Option<Role>) {
            let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
            if let Some(layer) = layers.get(module) {
                let role = match layer.transposed {
                    true => Role::TransposedLayer,
                    false => Role::Layer,
                };
                return (part_of(layer), name.ends_with(".weight").then_some(role));
            }
            let is_table = |table: &String| {
                let bare = table.strip_prefix(&prefix).filter(|_| !is_prefixed);
                name.ends_with(".weight") && (module == table || bare == Some(module))
            };
            if table.as_ref().is_some_and(is_table) {
                return (ModelPart::TokenTable, Some(Role::Table));
            }
            let is_of_model = !is_prefixed || name.starts_with(&prefix);
            match is_of_model && !is_output_weight(name) && !is_buffer(name) {
                true => (ModelPart::Rest, Some(Role::Table)),
                false => (ModelPart::Unused, None),
            }
        };
        let sizes = checkpoint.stored().iter().map(|(name, tensor)| {
            let (part, role) = place(name);
            let stored = tensor.stored()?;
            Ok(TensorSize {
                name: name.clone(),
                part,
                form: stored.form,
                is_quantised: tensor.is_quantised(),
                parameters: count(tensor.shape()),
                stored: stored.bytes as u64,
                held: Precision::NAMES.map(|(_, precision)| match part {
                    ModelPart::Unused => 0,
                    _ => held(&**tensor, name, role, checkpoint.settled(precision)),
                }),
            })
        });
        Ok(Self(sizes.collect::<Result<_, ModelError>>()?))
    }

    /// How many bytes a model on the CPU takes for all of it.
    pub fn held(&self, precision: Precision) -> u64 {
        self.0.iter().map(|tensor| tensor.held(precision)).sum()
    }
}

fn count(shape: &[usize]) -> u64 {
    shape.iter().map(|&size| size as u64).product()
}

/// - role: of a matrix
fn held(tensor: &dyn StoredTensor, name: &str, role: Option<Role>, precision: Precision) -> u64 {
    let shape = tensor.shape();
    let wide = WIDE * count(shape);
    let (Some(role), &[rows, cols]) = (role, shape) else {
        return wide;
    };
    let kept = match Holding::of(tensor, name, role, precision, |_| false) {
        Holding::Quantised if role == Role::TransposedLayer => {
            precision.quantised_size([cols, rows])
        }
        Holding::Quantised => precision.quantised_size([rows, cols]),
        Holding::Stored => tensor.encoded_size(),
        Holding::Wide => None,
    };
    kept.map_or(wide, |bytes| bytes as u64)
}

/// Families call the modules of their attention by many names, which have this in common.
fn part_of(layer: &LinearLayer) -> ModelPart {
    let parts = || layer.path.split('.');
    if is_output_weight(&format!("{}.weight", layer.path)) {
        ModelPart::OutputLayer
    } else if layer.head {
        ModelPart::Head
    } else if parts().any(|part| part.contains("attn") || part == "attention") {
        ModelPart::Attention
    } else if parts().any(|part| part.parse::<usize>().is_ok()) {
        ModelPart::FeedForward
    } else {
        ModelPart::Rest
    }
}

/// What older releases saved and models compute anew: positions, rotary frequencies, masks.
fn is_buffer(name: &str) -> bool {
    const BUFFERS: [&str; 4] = ["position_ids", "inv_freq", "masked_bias", "attn.bias"];
    BUFFERS.iter().any(|buffer| name.ends_with(buffer))
}
