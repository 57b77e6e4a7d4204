//! The model families of GGUF files and what they call their parts.

/// A family of models as `general.architecture` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufFamily {
    /// LLaMA, Mistral and models of other names that are built like them.
    Llama,
    Qwen2,
    Qwen3,
    Gemma2,
}

/// What a module is called in a block (`blk.0.…`) and in a layer (`model.layers.0.…`).
type Names = (&'static str, &'static str);

/// Linear layers, the same in every family.
const LINEAR: [Names; 7] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

const NORMS: [Names; 2] = [
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
];

const QWEN3_NORMS: [Names; 4] = [
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
];

/// Gemma 2 gives LLaMA's second norm another place: behind the attention, where `ffn_norm` is before
/// the feed-forward layers.
const GEMMA2_NORMS: [Names; 4] = [
    ("attn_norm", "input_layernorm"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

const OUTSIDE: [Names; 3] = [
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
];

impl GgufFamily {
    /// The family that `general.architecture` means.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "llama" => Self::Llama,
            "qwen2" => Self::Qwen2,
            "qwen3" => Self::Qwen3,
            "gemma2" => Self::Gemma2,
            _ => return None,
        })
    }

    /// Its name in `general.architecture`, with which its metadata begins.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma2 => "gemma2",
        }
    }

    /// Whether rows of query and key projections lie in llama.cpp's order, for its rotary embedding
    /// turns neighbours where transformers turns halves. Each of the two has its own number of heads.
    pub fn reorders_heads(self) -> bool {
        self == Self::Llama
    }

    /// Whether norms are stored as the factor itself, where the checkpoint has what is added to one.
    pub fn stores_norms_plus_one(self) -> bool {
        self == Self::Gemma2
    }

    fn norms(self) -> &'static [Names] {
        match self {
            Self::Llama | Self::Qwen2 => &NORMS,
            Self::Qwen3 => &QWEN3_NORMS,
            Self::Gemma2 => &GEMMA2_NORMS,
        }
    }

    /// What a checkpoint calls a tensor of a GGUF file: `model.layers.3.self_attn.q_proj.weight` for
    /// `blk.3.attn_q.weight`; `None` for one that the family does not have.
    pub fn checkpoint_name(self, gguf: &str) -> Option<String> {
        let (module, parameter) = gguf.rsplit_once('.')?;
        if let Some((layer, module)) = numbered(module, "blk.") {
            let mut names = self.in_layers(parameter);
            let (_, name) = names.find(|(name, _)| *name == module)?;
            return Some(format!("model.layers.{layer}.{name}.{parameter}"));
        }
        let (_, name) = outside(parameter).find(|(name, _)| *name == module)?;
        Some(format!("{name}.{parameter}"))
    }

    /// What a GGUF file calls a tensor of a checkpoint: `blk.3.attn_q.weight` for
    /// `model.layers.3.self_attn.q_proj.weight`; `None` for one that the family does not have.
    pub fn gguf_name(self, checkpoint: &str) -> Option<String> {
        let (module, parameter) = checkpoint.rsplit_once('.')?;
        if let Some((layer, module)) = numbered(module, "model.layers.") {
            let mut names = self.in_layers(parameter);
            let (name, _) = names.find(|(_, name)| *name == module)?;
            return Some(format!("blk.{layer}.{name}.{parameter}"));
        }
        let (name, _) = outside(parameter).find(|(_, name)| *name == module)?;
        Some(format!("{name}.{parameter}"))
    }

    /// The modules of a layer that have a parameter of this name.
    fn in_layers(self, parameter: &str) -> impl Iterator<Item = &'static Names> {
        let (linear, norms) = match parameter {
            "weight" => (LINEAR.as_slice(), self.norms()),
            "bias" => (LINEAR.as_slice(), [].as_slice()),
            _ => ([].as_slice(), [].as_slice()),
        };
        linear.iter().chain(norms)
    }
}

/// The modules outside of the layers that have a parameter of this name.
fn outside(parameter: &str) -> impl Iterator<Item = &'static Names> {
    let known: &[Names] = match parameter {
        "weight" => &OUTSIDE,
        _ => &[],
    };
    known.iter()
}

/// `3` and `attn_q` of `blk.3.attn_q`.
fn numbered<'a>(module: &'a str, prefix: &str) -> Option<(usize, &'a str)> {
    let (layer, module) = module.strip_prefix(prefix)?.split_once('.')?;
    // As written: `01` would be another name of the same layer.
    let number: usize = layer.parse().ok()?;
    (number.to_string() == layer).then_some((number, module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        let pairs = [
            (
                GgufFamily::Llama,
                "token_embd.weight",
                "model.embed_tokens.weight",
            ),
            (GgufFamily::Llama, "output.weight", "lm_head.weight"),
            (GgufFamily::Llama, "output_norm.weight", "model.norm.weight"),
            (
                GgufFamily::Qwen2,
                "blk.12.attn_k.bias",
                "model.layers.12.self_attn.k_proj.bias",
            ),
            (
                GgufFamily::Llama,
                "blk.0.ffn_norm.weight",
                "model.layers.0.post_attention_layernorm.weight",
            ),
            (
                GgufFamily::Qwen3,
                "blk.1.attn_k_norm.weight",
                "model.layers.1.self_attn.k_norm.weight",
            ),
            (
                GgufFamily::Gemma2,
                "blk.1.ffn_norm.weight",
                "model.layers.1.pre_feedforward_layernorm.weight",
            ),
            (
                GgufFamily::Gemma2,
                "blk.1.post_attention_norm.weight",
                "model.layers.1.post_attention_layernorm.weight",
            ),
            (
                GgufFamily::Gemma2,
                "blk.1.post_ffw_norm.weight",
                "model.layers.1.post_feedforward_layernorm.weight",
            ),
        ];
        for (family, gguf, checkpoint) in pairs {
            assert_eq!(family.checkpoint_name(gguf).as_deref(), Some(checkpoint));
            assert_eq!(family.gguf_name(checkpoint).as_deref(), Some(gguf));
        }
    }

    #[test]
    fn what_a_family_does_not_have_has_no_name() {
        let llama = GgufFamily::Llama;
        for name in [
            "blk.0.attn_q_norm.weight",
            "blk.0.post_ffw_norm.weight",
            "blk.01.attn_q.weight",
            "blk.x.attn_q.weight",
            "rope_freqs.weight",
            "blk.0.attn_q.scale",
            "blk.0.attn_norm.bias",
            "output.bias",
            "attn_q.weight",
        ] {
            assert_eq!(llama.checkpoint_name(name), None, "{name}");
        }
        assert_eq!(llama.gguf_name("score.weight"), None);
    }
}
