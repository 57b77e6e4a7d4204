//! `seed` and `seeds`: with which seeds a stage or an arm is run.

use std::collections::BTreeSet;

use toml::{Table, Value};

use crate::config_file::{KeyPath, Problem};

/// Whether a table has seeds of its own.
pub(super) fn has_seeds(table: &Table) -> bool {
    table.contains_key("seed") || table.contains_key("seeds")
}

/// The seeds of a table, 0 if it has none; `None` if they violate the schema.
///
/// - place: that of the table in the file
///
/// # Errors
/// If it has `seed` and `seeds`, or a seed twice: its results would count as those of two draws, and
/// the spread of the report would be too small.
pub(super) fn seeds_of(table: &Table, place: &KeyPath) -> Result<Option<Vec<u64>>, Problem> {
    let number = |value: &Value| u64::try_from(value.as_integer()?).ok();
    let refusal = |message: String| Err(Problem::new(place.key("seeds"), message));
    let list = match (table.get("seeds"), table.get("seed")) {
        (Some(_), Some(_)) => return refusal("give either `seed` or `seeds`".to_owned()),
        (None, None) => return Ok(Some(vec![0])),
        (None, Some(seed)) => return Ok(number(seed).map(|seed| vec![seed])),
        (Some(seeds), None) => seeds.as_array(),
    };
    let seeds: Option<Vec<u64>> = list.and_then(|list| list.iter().map(number).collect());
    let seeds = seeds.filter(|seeds| !seeds.is_empty());
    let mut seen = BTreeSet::new();
    let mut all = seeds.iter().flatten();
    match all.find(|&&seed| !seen.insert(seed)) {
        Some(seed) => refusal(format!("seed {seed} is listed twice")),
        None => Ok(seeds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_listed_once() {
        let read = |text: &str| {
            let table: Table = text.parse().expect("TOML");
            let seeds = seeds_of(&table, &KeyPath::default());
            seeds.map_err(|problem| problem.message)
        };
        assert_eq!(read(""), Ok(Some(vec![0])));
        assert_eq!(read("seed = 7"), Ok(Some(vec![7])));
        assert_eq!(read("seeds = [3, 0, 4]"), Ok(Some(vec![3, 0, 4])));
        assert_eq!(
            read("seeds = [3, 0, 3]"),
            Err("seed 3 is listed twice".to_owned())
        );
        assert_eq!(read("seeds = ['a']"), Ok(None));
        assert!(read("seed = 0\nseeds = [0]").is_err());
    }
}
