//! The ways to adapt a base model. A method is one file here and its lines in this registry; the
//! crate `moslora` initialises its updates.

mod basis_source;
mod basis_width;
mod compose;
mod composition_width;
mod definition;
mod eigenlorax;
mod eigenmix;
mod flattened;
mod full;
mod initial_adapter;
mod lora;
mod moslora;
mod on_basis;
mod own_output;
mod start;
mod target_layers;
mod whole_modules;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use basis_source::{BasisSource, read};
pub(crate) use basis_width::BasisWidth;
pub(crate) use composition_width::CompositionWidth;
pub(crate) use definition::{LayerSizes, Recipe};
pub(crate) use initial_adapter::InitialAdapter;
pub(crate) use on_basis::same_directory;
pub(crate) use own_output::{own_output, with_own_output};
pub(crate) use start::{MethodStart, start};
pub(crate) use target_layers::{
    is_of_tower, is_saved, on_modules, require_effect, targeted, uncomputed_note,
};
pub(crate) use whole_modules::whole_modules_note;

use definition::Definition;

/// The method that trains the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AdapterMethod {
    /// LoRA.
    Lora,
    /// MoSLoRA: LoRA with a learnable r × r mixer.
    Moslora,
    /// EigenLoRAx: coefficients on the recycled basis.
    Eigenlorax,
    /// eigenmix: a K × K mixer on the recycled basis.
    Eigenmix,
    /// Composition: the weights of other adapters in their sum.
    Compose,
    /// Full fine-tuning: every weight is trained.
    Full,
}

impl AdapterMethod {
    /// All methods.
    pub const ALL: [Self; 6] = [
        Self::Lora,
        Self::Moslora,
        Self::Eigenlorax,
        Self::Eigenmix,
        Self::Compose,
        Self::Full,
    ];

    pub(crate) fn definition(self) -> &'static Definition {
        match self {
            Self::Lora => &lora::LORA,
            Self::Moslora => &moslora::MOSLORA,
            Self::Eigenlorax => &eigenlorax::EIGENLORAX,
            Self::Eigenmix => &eigenmix::EIGENMIX,
            Self::Compose => &compose::COMPOSE,
            Self::Full => &full::FULL,
        }
    }

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// Whether it trains on a subspace of other adapters.
    pub fn has_basis(self) -> bool {
        matches!(self.definition().recipe, Recipe::Basis { .. })
    }

    /// Whether it trains the weights of other adapters in their sum.
    pub fn is_composition(self) -> bool {
        matches!(self.definition().recipe, Recipe::Composition)
    }

    /// Whether what it trains is nothing without other adapters, or the basis that stands for them.
    pub fn is_on_adapters(self) -> bool {
        self.has_basis() || self.is_composition()
    }

    /// Whether it trains the base model itself, and no adapter.
    pub fn trains_everything(self) -> bool {
        matches!(self.definition().recipe, Recipe::Everything)
    }

    /// The names of those that train on a subspace, as a list in a sentence: `a, b and c`.
    pub(crate) fn names_with_basis() -> String {
        let with_basis = Self::ALL.into_iter().filter(|method| method.has_basis());
        let names: Vec<&str> = with_basis.map(Self::name).collect();
        match names.split_last() {
            Some((last, others)) if !others.is_empty() => {
                format!("{} and {last}", others.join(", "))
            }
            _ => names.concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use eigenmix_models::HeadKind;

    use super::*;
    use crate::{AdapterConfig, BaseModel};

    #[test]
    fn every_method_has_its_name_in_files() {
        for method in AdapterMethod::ALL {
            let written = serde_json::to_value(method).expect("a word");
            assert_eq!(written, method.name());
        }
        assert_eq!(AdapterMethod::names_with_basis(), "eigenlorax and eigenmix");
    }

    #[test]
    fn the_parameters_counted_in_advance_are_those_that_an_update_trains() {
        let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/quickstart");
        let base = quickstart.join("base").display().to_string();
        let base = BaseModel::open_config(&base).expect("the base model");
        let head = HeadKind::Classification { labels: 3 };
        let description = base.architecture.describe(head).expect("a description");
        for method in AdapterMethod::ALL {
            let mut table = format!("method = \"{}\"\n", method.name());
            if !method.is_composition() {
                table += "rank = 3\n";
            }
            if method.is_on_adapters() {
                let adapters =
                    ["gym", "library"].map(|name| quickstart.join("adapters").join(name));
                table += &format!("adapters = {adapters:?}\nallow_base_mismatch = true\n");
            }
            let config: AdapterConfig = toml::from_str(&table).expect("a table");
            let started = start(&BasisSource {
                config: &config,
                base: &base,
                description: &description,
                seed: 1,
                gradient: None,
                composition: None,
            });
            let updates = started.expect("updates").updates;
            assert_eq!(updates.is_empty(), method.trains_everything());
            for (path, update) in updates {
                let sizes = LayerSizes {
                    rank: 3,
                    d_out: update.d_out(),
                    d_in: update.d_in(),
                    p: update.left.matrix.cols(),
                    q: update.right.matrix.cols(),
                    adapters: 2,
                    flattened: None,
                };
                let counted = (method.definition().trained)(&sizes);
                assert_eq!(counted, update.trained_parameters(), "{path}: {method:?}");
            }
        }
    }
}
