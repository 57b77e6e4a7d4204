/// The name among `found` that `wanted` was most likely meant to be, if any is near.
///
/// Near: the edit distance without regard to case is at most a third of the longer name.
pub fn closest_name<'a>(wanted: &str, found: &[&'a str]) -> Option<&'a str> {
    found
        .iter()
        .map(|name| (edit_distance(wanted, name), *name))
        .filter(|(distance, name)| distance * 3 <= wanted.chars().count().max(name.chars().count()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The fewest insertions, deletions, substitutions and swaps of neighbours among characters
/// (optimal string alignment).
fn edit_distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().collect();
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for row in 0..left.len() {
        let mut current = vec![row + 1];
        for column in 0..right.len() {
            let above = &rows[row];
            let substitution = above[column] + usize::from(left[row] != right[column]);
            let insertion_or_deletion = above[column + 1].min(current[column]) + 1;
            let mut fewest = substitution.min(insertion_or_deletion);
            let is_swap = row > 0
                && column > 0
                && left[row] == right[column - 1]
                && left[row - 1] == right[column];
            if is_swap {
                fewest = fewest.min(rows[row - 1][column - 1] + 1);
            }
            current.push(fewest);
        }
        rows.push(current);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances_are_the_textbook_ones() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("Label", "label"), 0);
        assert_eq!(edit_distance("modle", "model"), 1);
    }

    #[test]
    fn the_nearest_of_several_is_chosen_and_a_far_one_is_not() {
        assert_eq!(closest_name("label", &["labels", "Label"]), Some("Label"));
        assert_eq!(closest_name("text", &["premise", "hypothesis"]), None);
        assert_eq!(closest_name("text", &[]), None);
    }
}
