//! One value per module as heat maps: kinds of module × layers.

use std::collections::{BTreeMap, BTreeSet};

use eigenmix_charts::{Figure, HeatMap};

use crate::layer_path::{LayerPath, short_label};

/// The heat maps of `values` by module path: one for each stack of layers, and one for the modules
/// outside of all.
///
/// - title: what the values are
/// - range: the values of the first and the last colour, if not the smallest and the largest
pub fn module_maps(
    caption: &str,
    title: &str,
    values: &BTreeMap<String, f64>,
    range: Option<[f64; 2]>,
) -> Vec<Figure> {
    let mut stacks: BTreeMap<&str, BTreeMap<(&str, usize), f64>> = BTreeMap::new();
    let mut others: Vec<(&String, f64)> = Vec::new();
    for (path, &value) in values {
        match LayerPath::parse(path) {
            Some(LayerPath { stack, layer, kind }) => {
                stacks
                    .entry(stack)
                    .or_default()
                    .insert((kind, layer), value);
            }
            None => others.push((path, value)),
        }
    }
    let several = stacks.len() + usize::from(!others.is_empty()) > 1;
    let captioned = |part: &str| match several {
        true => format!("{caption}: {part}"),
        false => caption.to_owned(),
    };
    let mut maps: Vec<Figure> = stacks
        .iter()
        .map(|(stack, cells)| stack_map(title, cells, range).figure(&captioned(stack)))
        .collect();
    if !others.is_empty() {
        let map = HeatMap {
            title: title.to_owned(),
            rows: others.iter().map(|(path, _)| (*path).clone()).collect(),
            columns: vec![String::new()],
            column_title: String::new(),
            values: others.iter().map(|(_, value)| vec![Some(*value)]).collect(),
            range,
            has_trivial_diagonal: false,
        };
        maps.push(map.figure(&captioned("other modules")));
    }
    maps
}

fn stack_map(
    title: &str,
    cells: &BTreeMap<(&str, usize), f64>,
    range: Option<[f64; 2]>,
) -> HeatMap {
    let kinds: BTreeSet<&str> = cells.keys().map(|&(kind, _)| kind).collect();
    let layers: BTreeSet<usize> = cells.keys().map(|&(_, layer)| layer).collect();
    let row = |kind: &&str| -> Vec<Option<f64>> {
        let layers = layers.iter();
        layers
            .map(|&layer| cells.get(&(*kind, layer)).copied())
            .collect()
    };
    HeatMap {
        title: title.to_owned(),
        rows: kinds
            .iter()
            .map(|kind| short_label(kind, &kinds).to_owned())
            .collect(),
        columns: layers.iter().map(ToString::to_string).collect(),
        column_title: "layer".to_owned(),
        values: kinds.iter().map(row).collect(),
        range,
        has_trivial_diagonal: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_laid_out_by_kind_and_layer() {
        let cells = BTreeMap::from([
            (("attention.query", 0), 1.0),
            (("attention.query", 10), 2.0),
            (("mlp.down", 10), 3.0),
        ]);
        let map = stack_map("x", &cells, None);
        assert_eq!(map.rows, ["query", "down"]);
        assert_eq!(map.columns, ["0", "10"]);
        assert_eq!(map.values, [[Some(1.0), Some(2.0)], [None, Some(3.0)]]);
    }

    #[test]
    fn every_stack_of_layers_and_the_rest_have_a_picture() {
        let values = ["text.0.query", "vision.0.query", "pooler"];
        let values = values.map(|path| (path.to_owned(), 0.5));
        let maps = module_maps("Norms", "‖ΔW‖", &BTreeMap::from(values), None);
        assert_eq!(maps.len(), 3);
        assert!(module_maps("Norms", "‖ΔW‖", &BTreeMap::new(), None).is_empty());
    }
}
