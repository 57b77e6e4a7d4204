//! Which adapters have which module, checked before anything is computed.

use std::collections::BTreeMap;

use eigenmix_adapter::LayerKind;

use crate::error::MergeError;
use crate::source::MergeSource;

/// The adapters that have a module, and what they agree on.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    /// Indices into the adapters, in their order.
    pub(crate) adapters: Vec<usize>,
    /// `[d_out, d_in]`.
    pub(crate) shape: [usize; 2],
    pub(crate) layer: LayerKind,
    /// Σr: the sum of their ranks.
    pub(crate) columns: usize,
}

/// What there is to merge.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The base model that the adapters name.
    pub(crate) base_model: Option<String>,
    pub(crate) modules: Vec<(String, Members)>,
}

impl Plan {
    /// # Errors
    /// If the adapters name different base models, disagree on the shape of a module, or have a
    /// configuration under which a module is more than a low-rank update.
    pub(crate) fn new<S: MergeSource>(
        adapters: &[S],
        allow_base_mismatch: bool,
    ) -> Result<Self, MergeError> {
        let base_model = common_base_model(adapters, allow_base_mismatch)?;
        if !allow_base_mismatch {
            require_common_modules(adapters)?;
        }
        let mut modules: BTreeMap<String, Members> = BTreeMap::new();
        for (index, adapter) in adapters.iter().enumerate() {
            let shapes = adapter.shapes()?;
            if let Some((path, _)) = shapes.first() {
                check_config(adapter, path)?;
            }
            for (path, found) in shapes {
                let shape = [found.d_out, found.d_in];
                let Some(members) = modules.get_mut(&path) else {
                    let members = Members {
                        adapters: vec![index],
                        shape,
                        layer: found.layer,
                        columns: found.rank,
                    };
                    modules.insert(path, members);
                    continue;
                };
                if shape != members.shape {
                    return Err(MergeError::UnequalShapes {
                        module: path,
                        first: adapters[members.adapters[0]].location().to_owned(),
                        first_shape: members.shape,
                        second: adapter.location().to_owned(),
                        second_shape: shape,
                    });
                }
                if found.layer != members.layer {
                    return Err(MergeError::UnequalLayers {
                        module: path,
                        first: adapters[members.adapters[0]].location().to_owned(),
                        first_layer: members.layer.clone(),
                        second: adapter.location().to_owned(),
                        second_layer: found.layer,
                    });
                }
                members.adapters.push(index);
                members.columns += found.rank;
            }
        }
        Ok(Self {
            base_model,
            modules: modules.into_iter().collect(),
        })
    }
}

/// Refuses adapters of which nothing shows that they are for the same model.
fn require_common_modules<S: MergeSource>(adapters: &[S]) -> Result<(), MergeError> {
    let Some([first, second]) = eigenmix_eigenlorax::strangers(adapters)? else {
        return Ok(());
    };
    let example = |adapter: &S| {
        let mut shapes = adapter.shapes()?.into_iter();
        Ok::<_, MergeError>(shapes.next().map(|(path, _)| path).unwrap_or_default())
    };
    Err(MergeError::NothingInCommon {
        first: first.location().to_owned(),
        first_module: example(first)?,
        second: second.location().to_owned(),
        second_module: example(second)?,
    })
}

/// The base model that the adapters name; those that name none agree with any.
fn common_base_model<S: MergeSource>(
    adapters: &[S],
    allow_mismatch: bool,
) -> Result<Option<String>, MergeError> {
    let mut named = adapters
        .iter()
        .filter_map(|adapter| Some((adapter, adapter.base_model()?)));
    let Some((first, base_model)) = named.next() else {
        return Ok(None);
    };
    match named.find(|(_, other)| *other != base_model) {
        Some((second, other)) if !allow_mismatch => Err(MergeError::BaseModels {
            first: first.location().to_owned(),
            first_base: base_model.to_owned(),
            second: second.location().to_owned(),
            second_base: other.to_owned(),
        }),
        _ => Ok(Some(base_model.to_owned())),
    }
}

fn check_config<S: MergeSource>(adapter: &S, module: &str) -> Result<(), MergeError> {
    let (module, location) = (module.to_owned(), adapter.location().to_owned());
    if adapter.config().use_dora() {
        return Err(MergeError::Magnitude {
            module,
            adapter: location,
        });
    }
    if adapter.config().lora_bias() {
        return Err(MergeError::LoraBias {
            module,
            adapter: location,
        });
    }
    Ok(())
}
