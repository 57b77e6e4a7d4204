//! Which metadata of a family is used, which means nothing for the result, and which is refused.

/// What a key of the family's namespace is to a model that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyUse {
    /// It goes into the configuration.
    Used,
    /// It says nothing about the result.
    Harmless,
    /// It changes the result unless its value is 0, or none.
    Changes,
    Unknown,
}

const USED: [&str; 20] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "attn_logit_softcapping",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "final_logit_softcapping",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.type",
    "rope.scaling.yarn_log_multiplier",
    "vocab_size",
];

const HARMLESS: [&str; 4] = [
    // Of a norm that these families do not have.
    "attention.layer_norm_epsilon",
    // Below the scaling that is used: for fine-tuning it, and for scalings that are refused.
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    // Of the names of the tensors, years ago.
    "tensor_data_layout",
];

/// Parts of models that these families do not have here: where llama.cpp's loader would compute
/// something else.
const CHANGES: [&str; 33] = [
    "attention.causal",
    "attention.clamp_kqv",
    "attention.group_norm_epsilon",
    "attention.group_norm_groups",
    "attention.head_count_kv_swa",
    "attention.kv_lora_rank",
    "attention.max_alibi_bias",
    "attention.output_scale",
    "attention.q_lora_rank",
    "attention.relative_buckets_count",
    "attention.scale",
    "attention.shared_kv_layers",
    "attention.sliding_window_pattern",
    "attention.temperature_length",
    "attention.temperature_scale",
    "attn_output_scale",
    "dense_2_feat_out",
    "embedding_scale",
    "expert_count",
    "expert_shared_count",
    "expert_used_count",
    "interleave_moe_layer_step",
    "leading_dense_block_count",
    "logit_scale",
    "nextn_predict_layers",
    "no_rope_layer_step",
    "pooling_type",
    "residual_scale",
    "rope.dimension_sections",
    "rope.freq_base_swa",
    "router_logit_softcapping",
    "swin_norm",
    "use_parallel_residual",
];

/// What a key is, named without its family.
pub(super) fn use_of(key: &str) -> KeyUse {
    if USED.contains(&key) {
        return KeyUse::Used;
    }
    if HARMLESS.contains(&key) {
        return KeyUse::Harmless;
    }
    if CHANGES.contains(&key) || key.starts_with("expert") || key.starts_with("ssm.") {
        return KeyUse::Changes;
    }
    KeyUse::Unknown
}
