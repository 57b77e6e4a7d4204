//! Where the tensors of a checkpoint are in a GGUF file.

use std::collections::BTreeMap;

use eigenmix_gguf::{GgufFamily, GgufFile, gguf_row_order};

use super::config::{Sizes, refused};
use super::family::family_of;
use super::rotary::DIVISORS;
use crate::ModelError;

/// The tensors of a file by the names that they have in a checkpoint.
#[derive(Clone, Debug)]
pub struct GgufNames {
    family: GgufFamily,
    sources: BTreeMap<String, GgufSource>,
    unused: Vec<String>,
}

/// Where a checkpoint's tensor comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufSource {
    /// In the file.
    pub name: String,
    /// Which row of the file's tensor each row of the checkpoint's is, where they lie in another order.
    pub row_order: Option<Vec<u32>>,
    /// Whether the checkpoint's values are those of the file less one.
    pub subtract_one: bool,
}

impl GgufNames {
    /// The names of all tensors of a language model.
    ///
    /// # Errors
    /// If the family is not supported, or the file has a tensor that the family does not have, without
    /// which the model would be another one.
    pub fn of(file: &GgufFile) -> Result<Self, ModelError> {
        let family = family_of(file)?;
        let sizes = Sizes::of(file, family)?;
        let mut sources = BTreeMap::new();
        let (mut unused, mut strange) = (Vec::new(), Vec::new());
        for name in file.names() {
            if name == DIVISORS && family == GgufFamily::Llama {
                continue;
            }
            // Frequencies of the rotary embedding, which files of 2023 have beside its base.
            if name.ends_with(".attn_rot_embd.weight") || name == "rope.freqs" {
                unused.push(name.to_owned());
                continue;
            }
            let known = family.checkpoint_name(name);
            match known.filter(|_| layer_of(name).is_none_or(|layer| layer < sizes.layers)) {
                None => strange.push(name),
                Some(checkpoint) => {
                    let source = GgufSource {
                        name: name.to_owned(),
                        row_order: row_order(file, family, &sizes, name)?,
                        subtract_one: family.stores_norms_plus_one() && name.contains("norm"),
                    };
                    sources.insert(checkpoint, source);
                }
            }
        }
        if let Some(first) = strange.first() {
            let problem = format!(
                "tensor `{first}`{} is not of a {} model of {} layers as it is known here; the model would be another one without it",
                match strange.len() {
                    1 => String::new(),
                    count => format!(" (and {} others)", count - 1),
                },
                family.name(),
                sizes.layers
            );
            return Err(refused(file, problem));
        }
        Ok(Self {
            family,
            sources,
            unused,
        })
    }

    pub fn family(&self) -> GgufFamily {
        self.family
    }

    /// Where a checkpoint's tensor comes from, if the file has it.
    pub fn source(&self, checkpoint: &str) -> Option<&GgufSource> {
        self.sources.get(checkpoint)
    }

    /// All tensors by their names in a checkpoint, sorted.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &GgufSource)> {
        self.sources
            .iter()
            .map(|(name, source)| (name.as_str(), source))
    }

    /// Tensors of the file that mean nothing for the model.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }
}

fn layer_of(name: &str) -> Option<u64> {
    let (layer, _) = name.strip_prefix("blk.")?.split_once('.')?;
    layer.parse().ok()
}

fn row_order(
    file: &GgufFile,
    family: GgufFamily,
    sizes: &Sizes,
    name: &str,
) -> Result<Option<Vec<u32>>, ModelError> {
    let heads = match name {
        _ if !family.reorders_heads() => return Ok(None),
        _ if name.contains(".attn_q.") => sizes.heads,
        _ if name.contains(".attn_k.") => sizes.key_heads,
        _ => return Ok(None),
    };
    let shape = file.shape(name)?;
    let rows = shape.first().copied().unwrap_or(0);
    let heads = usize::try_from(heads).unwrap_or(usize::MAX);
    let fits = heads > 0 && rows > 0 && rows.is_multiple_of(heads) && (rows / heads) % 2 == 0;
    match fits && u32::try_from(rows).is_ok() {
        true => Ok(Some(gguf_row_order(rows, heads))),
        false => {
            let problem = format!(
                "tensor `{name}` has {rows} rows, which are not {heads} heads of an even size"
            );
            Err(refused(file, problem))
        }
    }
}
