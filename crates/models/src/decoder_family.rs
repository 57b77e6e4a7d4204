//! What the decoder families call their parts.

use crate::block::{BlockNames, InputNames};

/// Which decoder family a checkpoint belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecoderFamily {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    Gemma2,
    Gpt2,
}

impl DecoderFamily {
    /// The family of a `model_type`.
    pub(crate) fn from_model_type(model_type: &str) -> Option<Self> {
        Some(match model_type {
            "llama" => Self::Llama,
            "mistral" => Self::Mistral,
            "qwen2" => Self::Qwen2,
            "qwen3" => Self::Qwen3,
            "gemma2" => Self::Gemma2,
            "gpt2" => Self::Gpt2,
            _ => return None,
        })
    }

    /// Whether the output layer is the table of tokens where the configuration is silent, as in the
    /// family's class of transformers.
    pub(crate) fn ties_unless_told(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gpt2)
    }

    /// The model's name inside its task wrapper.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Gpt2 => "transformer",
            _ => "model",
        }
    }

    /// The modules that PEFT's LoRA targets by default.
    pub(crate) fn default_targets(self) -> &'static [&'static str] {
        match self {
            Self::Gpt2 => &["c_attn"],
            _ => &["q_proj", "v_proj"],
        }
    }

    pub(crate) fn layers_name(self) -> &'static str {
        match self {
            Self::Gpt2 => "h",
            _ => "layers",
        }
    }

    pub(crate) fn embedding_name(self) -> &'static str {
        match self {
            Self::Gpt2 => "wte",
            _ => "embed_tokens",
        }
    }

    pub(crate) fn final_norm_name(self) -> &'static str {
        match self {
            Self::Gpt2 => "ln_f",
            _ => "norm",
        }
    }

    pub(crate) fn block_names(self) -> BlockNames {
        let llama = BlockNames {
            attention_norm: "input_layernorm",
            inputs: InputNames::Separate([
                "self_attn.q_proj",
                "self_attn.k_proj",
                "self_attn.v_proj",
            ]),
            output: "self_attn.o_proj",
            head_norms: None,
            post_attention_norm: None,
            mlp_norm: "post_attention_layernorm",
            gate: Some("mlp.gate_proj"),
            up: "mlp.up_proj",
            down: "mlp.down_proj",
            post_mlp_norm: None,
        };
        match self {
            Self::Llama | Self::Mistral | Self::Qwen2 => llama,
            Self::Qwen3 => BlockNames {
                head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]),
                ..llama
            },
            Self::Gemma2 => BlockNames {
                post_attention_norm: Some("post_attention_layernorm"),
                mlp_norm: "pre_feedforward_layernorm",
                post_mlp_norm: Some("post_feedforward_layernorm"),
                ..llama
            },
            Self::Gpt2 => BlockNames {
                attention_norm: "ln_1",
                inputs: InputNames::Fused("attn.c_attn"),
                output: "attn.c_proj",
                mlp_norm: "ln_2",
                gate: None,
                up: "mlp.c_fc",
                down: "mlp.c_proj",
                ..llama
            },
        }
    }
}
