//! What CLIP calls the parts of a block, in both of its towers.

use crate::block::{BlockNames, InputNames};

/// CLIP's names for a block's parts, in both towers.
pub(crate) fn clip_block_names() -> BlockNames {
    BlockNames {
        attention_norm: "layer_norm1",
        inputs: InputNames::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        output: "self_attn.out_proj",
        head_norms: None,
        post_attention_norm: None,
        mlp_norm: "layer_norm2",
        gate: None,
        up: "mlp.fc1",
        down: "mlp.fc2",
        post_mlp_norm: None,
    }
}
