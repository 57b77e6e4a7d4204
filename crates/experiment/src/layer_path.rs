//! The path of a module as the layer that it is in and the kind of module that it is.

use std::collections::BTreeSet;

/// A path around its first number: `bert.encoder.layer`, 3, `attention.self.query`.
pub struct LayerPath<'a> {
    pub stack: &'a str,
    pub layer: usize,
    pub kind: &'a str,
}

impl<'a> LayerPath<'a> {
    pub fn parse(path: &'a str) -> Option<Self> {
        let mut start = 0;
        for component in path.split('.') {
            let end = start + component.len();
            if let Ok(layer) = component.parse() {
                return Some(Self {
                    stack: path[..start].trim_end_matches('.'),
                    layer,
                    kind: path[end..].trim_start_matches('.'),
                });
            }
            start = end + 1;
        }
        None
    }
}

/// The fewest last components of `kind` that no other kind ends in.
pub fn short_label<'a>(kind: &'a str, kinds: &BTreeSet<&str>) -> &'a str {
    let starts = kind.rmatch_indices('.').map(|(dot, _)| dot + 1);
    let is_unique = |label: &str| {
        !kinds.iter().any(|other| {
            *other != kind
                && other
                    .strip_suffix(label)
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    };
    starts
        .map(|start| &kind[start..])
        .find(|label| is_unique(label))
        .unwrap_or(kind)
}
