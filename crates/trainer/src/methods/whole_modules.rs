//! Modules that adapters bring trained whole, which nothing recycles.

use eigenmix_models::Description;

use crate::BaseModel;

/// What to say of modules of the base model, such as a connector or a table of tokens, that adapters bring
/// trained whole: a basis and a composition are of their updates alone, which were trained beside these.
///
/// - adapters: where each is, and the names of its whole tensors
pub(crate) fn whole_modules_note<'a, N: IntoIterator<Item = &'a str>>(
    base: &BaseModel,
    description: &Description,
    adapters: impl IntoIterator<Item = (&'a str, N)>,
) -> Option<String> {
    let is_of_base = |name: &&str| base.checkpoint.find(name, description.prefix).is_some();
    let mut found = adapters.into_iter().filter_map(|(location, names)| {
        let name = names.into_iter().find(is_of_base)?;
        Some((location, name))
    });
    let (location, name) = found.next()?;
    let more = match found.count() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(format!(
        "adapter `{location}`{more}: modules that were trained whole, such as `{name}`, are not recycled, only \
         the updates beside them; adapter.modules_to_save trains such modules anew"
    ))
}
