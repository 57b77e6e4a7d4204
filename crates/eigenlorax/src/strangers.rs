//! Adapters of which nothing shows that they belong to the same base model.

use std::collections::BTreeSet;

use eigenmix_adapter::AdapterError;

use crate::source::AdapterSource;

/// The first adapter that has no module of those before it and does not name the base model that one
/// of them names, and the first of those before it.
///
/// Adapters of different layers of one model have nothing in common either, but they name the model.
///
/// # Errors
/// If the modules of an adapter can't be found out.
pub fn strangers<S: AdapterSource>(adapters: &[S]) -> Result<Option<[&S; 2]>, AdapterError> {
    let mut modules: BTreeSet<String> = BTreeSet::new();
    let mut bases: BTreeSet<&str> = BTreeSet::new();
    for (index, adapter) in adapters.iter().enumerate() {
        let own: Vec<String> = adapter
            .shapes()?
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        let is_named = adapter
            .base_model()
            .is_some_and(|base| bases.contains(base));
        if index > 0 && !is_named && !own.iter().any(|path| modules.contains(path)) {
            return Ok(Some([&adapters[0], adapter]));
        }
        modules.extend(own);
        bases.extend(adapter.base_model());
    }
    Ok(None)
}
