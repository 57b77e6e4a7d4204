//! The activations of a training, estimated layer by layer.

use std::collections::BTreeSet;

use eigenmix_models::{Architecture, LayerStack};

use crate::batch_size::BatchSize;

/// Activations are computed in f32.
const BYTES: u64 = 4;

/// What the forward pass keeps of the layers above the lowest trained one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kept {
    Everything,
    LayerInputs,
}

/// Which layers of a model have something to train.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TrainedLayers {
    /// The lowest transformer layer that a gradient passes through; as many as there are if none.
    lowest: usize,
    /// Those with an adapted or trained linear layer.
    adapted: BTreeSet<usize>,
}

impl TrainedLayers {
    /// Every layer.
    pub fn all(stacks: &[LayerStack]) -> Self {
        let layers: usize = stacks.iter().map(|stack| stack.n_layers).sum();
        Self {
            lowest: 0,
            adapted: (0..layers).collect(),
        }
    }

    /// - paths: of the linear layers below the head that are trained
    pub fn of<'p>(stacks: &[LayerStack], paths: impl Iterator<Item = &'p str>) -> Self {
        let below =
            |index: usize| -> usize { stacks[..index].iter().map(|stack| stack.n_layers).sum() };
        let mut found = Self {
            lowest: below(stacks.len()),
            adapted: BTreeSet::new(),
        };
        for path in paths {
            let Some(index) = stacks.iter().position(|one| path.starts_with(one.prefix)) else {
                // A connector, whose gradient passes all that follows the tower.
                found.lowest = found.lowest.min(below(stacks.len() - 1));
                continue;
            };
            let number = path.split('.').find_map(|part| part.parse::<usize>().ok());
            if let Some(number) = number.filter(|&number| number < stacks[index].n_layers) {
                let layer = below(index) + number;
                found.lowest = found.lowest.min(layer);
                found.adapted.insert(layer);
            }
        }
        found
    }
}

/// How many bytes of activations exist at the peak: those that are kept, and in one layer as many gradients.
///
/// - rows: of the last stack, in a batch
pub(crate) fn activations(
    architecture: &Architecture,
    stacks: &[LayerStack],
    (batch, rows): (BatchSize, u64),
    trained: &TrainedLayers,
    kept: Kept,
) -> u64 {
    let tokens_per_image = architecture.image_tokens().map(|tokens| tokens.per_image);
    let examples = match (batch, tokens_per_image) {
        (BatchSize::Examples(examples), _) => examples.get(),
        // Every example has an image, and no room for much else.
        (BatchSize::Tokens(tokens), Some(per_image)) => (tokens.get() / per_image.max(1)).max(1),
        (BatchSize::Tokens(_), None) => 1,
    };
    let last = stacks.len().saturating_sub(1);
    let (mut first, mut values, mut working) = (0, 0, 0);
    for (index, stack) in stacks.iter().enumerate() {
        let rows = match index == last {
            true => rows,
            false => (examples * stack.rows_per_example) as u64,
        };
        let per_row: usize = (first..first + stack.n_layers)
            .map(|layer| match kept {
                Kept::LayerInputs => stack.d_model,
                Kept::Everything if layer < trained.lowest => 0,
                Kept::Everything if trained.adapted.contains(&layer) => stack.activations,
                Kept::Everything => stack.passed,
            })
            .sum();
        values += rows * per_row as u64;
        // A layer that runs again has its activations beside their gradients.
        let in_one = match kept {
            Kept::Everything => stack.activations,
            Kept::LayerInputs => 2 * stack.activations,
        };
        working = working.max(rows * in_one as u64);
        first += stack.n_layers;
    }
    BYTES * (values + working)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOWER: LayerStack = LayerStack {
        prefix: "tower",
        n_layers: 3,
        rows_per_example: 5,
        d_model: 8,
        activations: 100,
        passed: 70,
    };
    const DECODER: LayerStack = LayerStack {
        prefix: "text",
        n_layers: 2,
        rows_per_example: 20,
        ..TOWER
    };

    fn of(paths: &[&str]) -> (usize, Vec<usize>) {
        let found = TrainedLayers::of(&[TOWER, DECODER], paths.iter().copied());
        (found.lowest, found.adapted.into_iter().collect())
    }

    #[test]
    fn layers_of_a_decoder_are_above_those_of_the_tower() {
        assert_eq!(of(&["text.layers.1.q"]), (4, vec![4]));
        assert_eq!(
            of(&["text.layers.0.q", "tower.layers.2.q"]),
            (2, vec![2, 3])
        );
        assert_eq!(of(&["connector.linear_1"]), (3, vec![]));
        assert_eq!(of(&["connector.linear_1", "text.layers.1.q"]), (3, vec![4]));
        assert_eq!(of(&[]), (5, vec![]));
        // One that is not computed.
        assert_eq!(of(&["tower.layers.3.q"]), (5, vec![]));
    }

    #[test]
    fn a_model_of_one_stack_keeps_what_is_above_its_lowest_adapted_layer() {
        let stack = LayerStack {
            prefix: "",
            ..TOWER
        };
        let paths = ["layers.1.q", "head"];
        let found = TrainedLayers::of(&[stack], paths.into_iter());
        assert_eq!((found.lowest, found.adapted.len()), (1, 1));
    }
}
