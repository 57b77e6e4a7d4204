//! The README.md beside an adapter: a short model card that claims nothing that was not measured.

use std::fmt::Write as _;

use serde_json::json;

use crate::{Adapter, PeftConfig, Provenance};

/// The text of the card for `adapter`, written under `config`.
pub(crate) fn model_card(
    adapter: &Adapter,
    config: &PeftConfig,
    provenance: Option<&Provenance>,
) -> String {
    // Writing to a String cannot fail.
    let mut card = String::new();
    let base_model = config.base_model();
    let _ = writeln!(card, "---");
    if let Some(base_model) = base_model {
        let _ = writeln!(card, "base_model: {}", json!(base_model));
    }
    let _ = writeln!(card, "library_name: peft");
    let _ = writeln!(card, "tags:\n- lora");
    if let Some(base_model) = base_model {
        let _ = writeln!(
            card,
            "- {}",
            json!(format!("base_model:adapter:{base_model}"))
        );
    }
    let _ = writeln!(card, "---\n\n# LoRA adapter\n");

    let modules = adapter.modules.len();
    let ranks: Vec<usize> = adapter
        .modules
        .values()
        .map(|module| module.rank())
        .collect();
    let rank = match (ranks.iter().min(), ranks.iter().max()) {
        (Some(low), Some(high)) if low != high => format!("ranks {low} to {high}"),
        (Some(rank), _) => format!("rank {rank}"),
        _ => "no rank".to_owned(),
    };
    // Of the factors as they are written: a mixer is folded into B by then.
    let parameters: usize = adapter
        .modules
        .values()
        .map(|module| module.rank() * (module.d_in() + module.d_out()))
        .sum();
    let kind = if config.use_dora() { "DoRA" } else { "LoRA" };
    let _ = writeln!(
        card,
        "A plain PEFT {kind} adapter for `{}`: {modules} modules, {rank}, {} parameters, scaling 1.",
        base_model.unwrap_or("an unnamed base model"),
        parameters,
    );
    if !adapter.heads.is_empty() {
        let names: Vec<String> = adapter
            .heads
            .keys()
            .map(|name| format!("`{name}`"))
            .collect();
        let _ = writeln!(card, "It brings its own head: {}.", names.join(", "));
    }
    if let Some(provenance) = provenance {
        let _ = writeln!(
            card,
            "\nMade by Eigenmix {} with `{}`; every option is in `{}`.",
            provenance.version,
            provenance.method,
            Provenance::FILE_NAME
        );
        if !provenance.sources.is_empty() {
            let _ = writeln!(card, "\n## Sources\n");
            for source in &provenance.sources {
                let _ = writeln!(card, "- `{}` (sha256 `{}`)", source.location, source.sha256);
            }
        }
    }
    let _ = writeln!(
        card,
        "\nThis card was generated. It states no licence and no figures; the terms of the base \
         model and of the sources apply."
    );
    card
}
