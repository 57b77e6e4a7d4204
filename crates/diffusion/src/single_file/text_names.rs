//! The tensors of OpenCLIP's text tower, and what diffusers has of them.

/// What becomes of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is called so.
    As(String),
    /// Its rows are three tensors.
    Three([String; 3]),
    /// It is called so and transposed.
    Transposed(String),
}

/// - name: without the prefix of the text encoder
pub(super) fn of_open_clip(name: &str) -> Option<Taken> {
    let whole = match name {
        "token_embedding.weight" => "text_model.embeddings.token_embedding.weight",
        "positional_embedding" => "text_model.embeddings.position_embedding.weight",
        "ln_final.weight" => "text_model.final_layer_norm.weight",
        "ln_final.bias" => "text_model.final_layer_norm.bias",
        "text_projection" => return Some(Taken::Transposed("text_projection.weight".to_owned())),
        "text_projection.weight" => name,
        _ => return in_layer(name),
    };
    Some(Taken::As(whole.to_owned()))
}

fn in_layer(name: &str) -> Option<Taken> {
    let rest = name.strip_prefix("transformer.resblocks.")?;
    let (layer, inner) = rest.split_once('.')?;
    let path = format!("text_model.encoder.layers.{layer}");
    if let Some(tensor) = inner.strip_prefix("attn.in_proj_") {
        let projections = ["q_proj", "k_proj", "v_proj"];
        let named = projections.map(|projection| format!("{path}.self_attn.{projection}.{tensor}"));
        return Some(Taken::Three(named));
    }
    let (place, tensor) = inner.rsplit_once('.')?;
    let place = match place {
        "ln_1" => "layer_norm1",
        "ln_2" => "layer_norm2",
        "mlp.c_fc" => "mlp.fc1",
        "mlp.c_proj" => "mlp.fc2",
        "attn.out_proj" => "self_attn.out_proj",
        _ => return None,
    };
    Some(Taken::As(format!("{path}.{place}.{tensor}")))
}

/// The layer of the tower that a name of diffusers is of.
pub(super) fn layer_of(name: &str) -> Option<usize> {
    let rest = name.strip_prefix("text_model.encoder.layers.")?;
    rest.split_once('.')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_kind_are_those_of_diffusers() {
        let layer = "text_model.encoder.layers.7";
        for (original, expected) in [
            (
                "transformer.resblocks.7.ln_2.bias",
                format!("{layer}.layer_norm2.bias"),
            ),
            (
                "transformer.resblocks.7.mlp.c_proj.weight",
                format!("{layer}.mlp.fc2.weight"),
            ),
            (
                "transformer.resblocks.7.attn.out_proj.weight",
                format!("{layer}.self_attn.out_proj.weight"),
            ),
        ] {
            assert_eq!(of_open_clip(original), Some(Taken::As(expected)));
        }
        let three = ["q", "k", "v"].map(|name| format!("{layer}.self_attn.{name}_proj.bias"));
        let found = of_open_clip("transformer.resblocks.7.attn.in_proj_bias");
        assert_eq!(found, Some(Taken::Three(three)));
        assert_eq!(of_open_clip("logit_scale"), None);
        assert_eq!(layer_of(&format!("{layer}.mlp.fc2.weight")), Some(7));
    }
}
