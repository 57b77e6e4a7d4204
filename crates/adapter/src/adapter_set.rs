//! Adapters that are extracted or merged together: what they have to agree on, checked once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::adapter_set_error::AdapterSetError;
use crate::adapter_source::AdapterSource;
use crate::module_name::{at_layer, is_other_name};
use crate::{LayerKind, LoraModule};

/// Adapters of one base model, and which of them have which module.
///
/// Making one reads no values: base models, configurations and shapes are enough to see whether
/// adapters belong together. Values are checked as [`AdapterSet::updates`] reads them.
#[derive(Debug)]
pub struct AdapterSet<'a, S> {
    adapters: &'a [S],
    base_model: Option<String>,
    modules: Vec<(String, ModuleMembers)>,
}

/// What is asked of the base models that the adapters of a set name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bases {
    /// They have to be the same.
    One,
    /// They are the same, whatever their names.
    OneByManyNames,
    /// They may differ.
    Many,
}

/// The adapters of a set that have a module, and what they agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleMembers {
    /// Indices into the adapters of the set, in their order.
    pub adapters: Vec<usize>,
    /// `[d_out, d_in]` of ΔW.
    pub shape: [usize; 2],
    pub layer: LayerKind,
    /// Σr: the sum of the ranks in these adapters.
    pub columns: usize,
}

impl<'a, S: AdapterSource> AdapterSet<'a, S> {
    /// Checks that `adapters` can be used together.
    ///
    /// `allow_base_mismatch` lets adapters pass that name different base models, or of which nothing
    /// shows that they are for the same one.
    ///
    /// # Errors
    /// If there is no adapter or no module; if adapters name different base models, disagree on the
    /// shape, the layer or the name of a module, or have nothing in common; if one is of DoRA or lists
    /// a module twice.
    pub fn new(adapters: &'a [S], allow_base_mismatch: bool) -> Result<Self, AdapterSetError> {
        let bases = match allow_base_mismatch {
            true => Bases::OneByManyNames,
            false => Bases::One,
        };
        Self::over(adapters, bases)
    }

    /// Adapters that are only compared, whether or not they are for one base model.
    ///
    /// # Errors
    /// As [`AdapterSet::new`] with `allow_base_mismatch`, but adapters that name different base models
    /// may also name their modules differently.
    pub fn of_any_bases(adapters: &'a [S]) -> Result<Self, AdapterSetError> {
        Self::over(adapters, Bases::Many)
    }

    fn over(adapters: &'a [S], bases: Bases) -> Result<Self, AdapterSetError> {
        if adapters.is_empty() {
            return Err(AdapterSetError::NoAdapters);
        }
        let base_model = common_base_model(adapters, bases)?;
        let mut modules: BTreeMap<String, ModuleMembers> = BTreeMap::new();
        for (index, adapter) in adapters.iter().enumerate() {
            let shapes = adapter.shapes()?;
            if let Some((path, _)) = shapes.first()
                && adapter.config().use_dora()
            {
                return Err(AdapterSetError::Magnitude {
                    module: path.clone(),
                    adapter: adapter.location().to_owned(),
                });
            }
            for (path, found) in shapes {
                let shape = [found.d_out, found.d_in];
                let Some(members) = modules.get_mut(&path) else {
                    let members = ModuleMembers {
                        adapters: vec![index],
                        shape,
                        layer: found.layer,
                        columns: found.rank,
                    };
                    modules.insert(path, members);
                    continue;
                };
                let first = members.adapters[0];
                if members.adapters.last() == Some(&index) {
                    return Err(AdapterSetError::ModuleTwice {
                        module: path,
                        adapter: adapter.location().to_owned(),
                    });
                }
                if shape != members.shape {
                    return Err(AdapterSetError::UnequalShapes {
                        module: path,
                        first: adapters[first].location().to_owned(),
                        first_shape: members.shape,
                        second: adapter.location().to_owned(),
                        second_shape: shape,
                    });
                }
                if found.layer != members.layer {
                    return Err(AdapterSetError::UnequalLayers {
                        module: path,
                        first: adapters[first].location().to_owned(),
                        first_layer: members.layer.clone(),
                        second: adapter.location().to_owned(),
                        second_layer: found.layer,
                    });
                }
                members.adapters.push(index);
                members.columns += found.rank;
            }
        }
        if modules.is_empty() {
            return Err(AdapterSetError::NoModules {
                adapters: adapters.len(),
            });
        }
        if bases == Bases::One {
            require_relation(adapters, &modules)?;
        }
        let may_share_base = |first: usize, second: usize| {
            let named = [first, second].map(|index| adapters[index].base_model());
            match (bases, named) {
                (Bases::Many, [Some(first), Some(second)]) => first == second,
                _ => true,
            }
        };
        if let Some([first, second]) = one_layer_under_two_names(&modules, may_share_base) {
            let location = |path: &str| adapters[modules[path].adapters[0]].location().to_owned();
            return Err(AdapterSetError::TwoNames {
                first: location(first),
                second: location(second),
                first_module: first.to_owned(),
                second_module: second.to_owned(),
            });
        }
        Ok(Self {
            adapters,
            base_model,
            modules: modules.into_iter().collect(),
        })
    }

    /// The adapters, in the order in which they were given.
    pub fn adapters(&self) -> &'a [S] {
        self.adapters
    }

    /// The base model that the adapters name, if one does; of different ones that were allowed, the
    /// first.
    pub fn base_model(&self) -> Option<&str> {
        self.base_model.as_deref()
    }

    /// Every module that any adapter has, by its path in the base model, sorted.
    pub fn modules(&self) -> &[(String, ModuleMembers)] {
        &self.modules
    }

    /// The modules that only some of the adapters have.
    pub fn partial(&self) -> impl Iterator<Item = (&str, &ModuleMembers)> {
        let modules = self.modules.iter();
        modules
            .filter(|(_, members)| members.adapters.len() < self.adapters.len())
            .map(|(path, members)| (path.as_str(), members))
    }

    /// The updates of the module `path` with the index of their adapter, one read after the other.
    ///
    /// # Errors
    /// If one can't be read, isn't finite, or has a DoRA magnitude.
    pub fn updates(
        &self,
        path: &str,
        members: &ModuleMembers,
    ) -> impl Iterator<Item = Result<(usize, Cow<'a, LoraModule>), AdapterSetError>> {
        members.adapters.iter().map(move |&index| {
            let adapter = &self.adapters[index];
            let module = adapter.module(path)?;
            check_low_rank(&module, path, adapter.location())?;
            Ok((index, module))
        })
    }
}

/// Refuses adapters of which nothing shows that they are for one base model: neither its name nor a
/// module leads from the first to them, directly or by way of others, in whatever order they are given.
fn require_relation<S: AdapterSource>(
    adapters: &[S],
    modules: &BTreeMap<String, ModuleMembers>,
) -> Result<(), AdapterSetError> {
    let mut of_base: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, adapter) in adapters.iter().enumerate() {
        if let Some(base) = adapter.base_model() {
            of_base.entry(base).or_default().push(index);
        }
    }
    let with_module = modules.values().map(|members| &members.adapters);
    let mut groups: Vec<&Vec<usize>> = of_base.values().chain(with_module).collect();
    let mut is_reached = vec![false; adapters.len()];
    is_reached[0] = true;
    loop {
        let before = groups.len();
        groups.retain(|group| {
            let touches = group.iter().any(|&index| is_reached[index]);
            if touches {
                group.iter().for_each(|&index| is_reached[index] = true);
            }
            !touches
        });
        if groups.len() == before {
            break;
        }
    }
    let Some(other) = is_reached.iter().position(|reached| !reached) else {
        return Ok(());
    };
    let module_of = |index: usize| {
        let mut having = modules.iter();
        let found = having.find(|(_, members)| members.adapters.contains(&index));
        found.map(|(path, _)| path.clone()).unwrap_or_default()
    };
    Err(AdapterSetError::NothingInCommon {
        first: adapters[0].location().to_owned(),
        first_module: module_of(0),
        second: adapters[other].location().to_owned(),
        second_module: module_of(other),
    })
}

/// Two paths that are one layer of the base model by different names, if no adapter uses both namings.
///
/// - may_share_base: whether two adapters may be for one base model
fn one_layer_under_two_names(
    modules: &BTreeMap<String, ModuleMembers>,
    may_share_base: impl Fn(usize, usize) -> bool,
) -> Option<[&str; 2]> {
    // Paths by what follows their layer index, and the adapters that use what precedes it.
    let mut by_tail: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut users: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (path, members) in modules {
        if let Some((prefix, tail)) = at_layer(path) {
            by_tail.entry(tail).or_default().push(path);
            users.entry(prefix).or_default().extend(&members.adapters);
        }
    }
    let users_of = |path: &str| at_layer(path).and_then(|(prefix, _)| users.get(prefix));
    by_tail.into_values().find_map(|paths| {
        let pairs = paths.iter().enumerate();
        let mut pairs = pairs.flat_map(|(index, first)| {
            let others = paths[index + 1..].iter();
            others.map(move |second| [*first, *second])
        });
        pairs.find(|[first, second]| {
            let apart = match (users_of(first), users_of(second)) {
                (Some(first), Some(second)) => first.is_disjoint(second),
                _ => false,
            };
            let shares_base = || {
                let second = &modules[*second].adapters;
                let mut first = modules[*first].adapters.iter();
                first.any(|&first| second.iter().any(|&second| may_share_base(first, second)))
            };
            apart && is_other_name(first, second) && shares_base()
        })
    })
}

/// The base model that the adapters name; those that name none agree with any.
fn common_base_model<S: AdapterSource>(
    adapters: &[S],
    bases: Bases,
) -> Result<Option<String>, AdapterSetError> {
    let mut named = adapters
        .iter()
        .filter_map(|adapter| Some((adapter, adapter.base_model()?)));
    let Some((first, base_model)) = named.next() else {
        return Ok(None);
    };
    match named.find(|(_, other)| *other != base_model) {
        Some((second, other)) if bases == Bases::One => Err(AdapterSetError::BaseModels {
            first: first.location().to_owned(),
            first_base: base_model.to_owned(),
            second: second.location().to_owned(),
            second_base: other.to_owned(),
        }),
        _ => Ok(Some(base_model.to_owned())),
    }
}

/// Refuses a module whose values have no place in a low-rank update, or in a decomposition.
///
/// # Errors
/// If it has a DoRA magnitude or a value that isn't finite; `location` is the name of its adapter.
pub fn check_low_rank(
    module: &LoraModule,
    path: &str,
    location: &str,
) -> Result<(), AdapterSetError> {
    if module.magnitude.is_some() {
        return Err(AdapterSetError::Magnitude {
            module: path.to_owned(),
            adapter: location.to_owned(),
        });
    }
    if !module.is_finite() {
        return Err(AdapterSetError::NotFinite {
            module: path.to_owned(),
            adapter: location.to_owned(),
        });
    }
    Ok(())
}
