//! One value per module, laid out as layers × kinds of module.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use eigenmix_experiment::{LayerPath, Table, short_label};

/// The most columns that fit on a line of a terminal.
const WIDEST: usize = 12;

/// One value per module path.
///
/// Paths with a layer number, such as `bert.encoder.layer.3.attention.self.query`, make one grid
/// for each part in front of the number: one row per layer, one column per rest; if there are many
/// of these, as in the blocks of a UNet, rows and columns are swapped. Other paths get a row each.
#[derive(Clone, Debug)]
pub(crate) struct LayerTable<'a> {
    values: &'a BTreeMap<String, f64>,
    show: fn(f64) -> String,
}

impl<'a> LayerTable<'a> {
    /// The table of `values`, each formatted by `show`.
    pub(crate) fn new(values: &'a BTreeMap<String, f64>, show: fn(f64) -> String) -> Self {
        Self { values, show }
    }

    fn grid(&self, stack: &str, cells: &BTreeMap<(usize, &str), f64>) -> Table {
        let layers: BTreeSet<usize> = cells.keys().map(|&(layer, _)| layer).collect();
        let kinds: BTreeSet<&str> = cells.keys().map(|&(_, kind)| kind).collect();
        let show = |layer, kind| match cells.get(&(layer, kind)) {
            Some(&value) => (self.show)(value),
            None => "—".to_owned(),
        };
        if kinds.len() > WIDEST && kinds.len() > layers.len() {
            let numbers = layers.iter().map(usize::to_string);
            let mut table = Table::with_header([format!("{stack}.*")].into_iter().chain(numbers));
            for kind in kinds {
                let values = layers.iter().map(|&layer| show(layer, kind));
                table.push([kind.to_owned()].into_iter().chain(values));
            }
            return table;
        }
        let labels = kinds
            .iter()
            .map(|kind| short_label(kind, &kinds).to_owned());
        let mut table = Table::with_header([format!("{stack}.*")].into_iter().chain(labels));
        for layer in layers {
            let values = kinds.iter().map(|&kind| show(layer, kind));
            table.push([layer.to_string()].into_iter().chain(values));
        }
        table
    }
}

impl fmt::Display for LayerTable<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut stacks: BTreeMap<&str, BTreeMap<(usize, &str), f64>> = BTreeMap::new();
        let mut others = Table::default();
        let mut has_others = false;
        for (path, &value) in self.values {
            match LayerPath::parse(path) {
                Some(LayerPath { stack, layer, kind }) => {
                    let cells = stacks.entry(stack).or_default();
                    cells.insert((layer, kind), value);
                }
                None => {
                    others.push([path.clone(), (self.show)(value)]);
                    has_others = true;
                }
            }
        }
        let grids = stacks.iter().map(|(stack, cells)| self.grid(stack, cells));
        let tables: Vec<String> = grids
            .chain(has_others.then_some(others))
            .map(|table| table.to_string())
            .collect();
        formatter.write_str(&tables.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_laid_out_by_layer_and_kind() {
        let values = [
            ("encoder.layer.0.attention.self.query", 1.0),
            ("encoder.layer.10.attention.self.query", 2.0),
            ("encoder.layer.10.attention.output.dense", 3.0),
            ("encoder.layer.2.output.dense", 4.0),
            ("pooler", 5.0),
        ];
        let values = values.map(|(path, value)| (path.to_owned(), value));
        let text =
            LayerTable::new(&BTreeMap::from(values), |value| format!("{value:.1}")).to_string();
        let expected = "\
encoder.layer.*  attention.output.dense  query  output.dense
0                                     —    1.0             —
2                                     —      —           4.0
10                                  3.0    2.0             —
pooler  5.0";
        assert_eq!(text, expected);
    }

    #[test]
    fn many_kinds_are_rows() {
        let kinds = (0..=WIDEST).map(|kind| (format!("blocks.{}.part_{kind:02}", kind % 2), 1.0));
        let values = kinds.collect();
        let text = LayerTable::new(&values, |value| format!("{value:.1}")).to_string();
        let lines: Vec<&str> = text.lines().take(3).collect();
        assert_eq!(
            lines,
            [
                "blocks.*    0    1",
                "part_00   1.0    —",
                "part_01     —  1.0"
            ]
        );
    }
}
