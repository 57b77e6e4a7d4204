//! Lists on one line.

use std::fmt;

/// How many items of a list are shown.
const SHOWN: usize = 8;

/// Items with commas between them.
pub(super) struct Listed<'a, T>(pub(super) &'a [T]);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(formatter, "{comma}{item}")?;
        }
        Ok(())
    }
}

/// The first items, and how many more there are.
pub(super) fn first_few(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut items: Vec<String> = items.collect();
    if items.len() > SHOWN {
        let more = items.len() - SHOWN;
        items.truncate(SHOWN);
        items.push(format!("and {more} more"));
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_ends_with_the_number_of_the_rest() {
        let items = first_few((0..10).map(|index| index.to_string()));
        assert_eq!(
            Listed(&items).to_string(),
            "0, 1, 2, 3, 4, 5, 6, 7, and 2 more"
        );
    }
}
