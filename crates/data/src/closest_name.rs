//! The name that a misspelt one was meant to be, for the advice in errors.

/// The name among `found` that `wanted` was most likely meant to be, if any is near.
///
/// Near: the fewest insertions, deletions, substitutions and swaps of neighbours (optimal string
/// alignment) without regard to case are at most a third of the longer name.
pub fn closest_name<'a>(wanted: &str, found: &[&'a str]) -> Option<&'a str> {
    let wanted_lowercase = wanted.to_lowercase();
    found
        .iter()
        .map(|name| {
            let distance = strsim::osa_distance(&wanted_lowercase, &name.to_lowercase());
            (distance, *name)
        })
        .filter(|(distance, name)| distance * 3 <= wanted.chars().count().max(name.chars().count()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_of_several_is_chosen_and_a_far_one_is_not() {
        assert_eq!(closest_name("label", &["labels", "Label"]), Some("Label"));
        assert_eq!(closest_name("text", &["premise", "hypothesis"]), None);
        assert_eq!(closest_name("text", &[]), None);
    }

    #[test]
    fn a_swap_of_neighbours_is_one_edit() {
        assert_eq!(closest_name("abc", &["acb"]), Some("acb"));
        assert_eq!(closest_name("modle", &["mode", "model"]), Some("mode"));
        assert_eq!(closest_name("modle", &["modular", "model"]), Some("model"));
        assert_eq!(closest_name("abc", &["bca"]), None);
    }
}
