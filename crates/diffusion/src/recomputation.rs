//! Gradient checkpointing: the activations of one place at a time (arXiv 1604.06174).

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};

use crate::pixels::Pixels;
use crate::unet::{Place, PlaceConditions, Unet, UnetInput};

/// The input of a place.
struct Kept {
    hidden: Pixels,
    /// Which of the outputs on the way down it takes along.
    skip: Option<usize>,
    size: Option<[usize; 2]>,
    /// Which one of them its output is.
    left: Option<usize>,
}

impl Unet {
    /// The loss of an input, and the gradients of everything that is trained, while only the inputs of
    /// its blocks are kept: each block runs once more when its gradients are due.
    ///
    /// - input: on a device with gradients, where the UNet was loaded
    /// - objective: the loss from what [`Unet::forward`] would give
    /// - visit: gets the gradients, part by part; what a part does not train is not in it
    pub fn backward_by_blocks(
        &self,
        input: &UnetInput,
        objective: impl FnOnce(Tensor<4>) -> Tensor<1>,
        mut visit: impl FnMut(Gradients),
    ) -> Tensor<1> {
        let conditions = self.conditions(input);
        let time = conditions.time.clone();
        let time_is_trained = time.is_tracked();
        let places = self.places();
        let lowest = match time_is_trained {
            true => Some(0),
            false => places.iter().position(|&place| self.is_trained(place)),
        };
        let (kept, outputs, top) = self.run_without_graph(input, &conditions, &places);

        let top_rows = tracked(top.rows.clone());
        let loss = objective(top.with(top_rows.clone()).into_images());
        let mut gradients = loss.backward();
        let mut gradient = top_rows.grad_remove(&mut gradients);
        visit(gradients);

        let mut of_outputs: Vec<Option<Tensor<2>>> = outputs.iter().map(|_| None).collect();
        let mut of_time: Option<Tensor<2>> = None;
        for (index, (&place, kept)) in places.iter().zip(kept).enumerate().rev() {
            let is_needed = lowest.is_some_and(|lowest| index >= lowest);
            let Some(mut above) = gradient.take().filter(|_| is_needed) else {
                break;
            };
            if let Some(along) = kept.left.and_then(|left| of_outputs[left].take()) {
                above = above + along;
            }
            let goes_on = lowest.is_some_and(|lowest| index > lowest);
            let leaf = |rows: Tensor<2>| match goes_on {
                true => tracked(rows),
                false => Tensor::from_inner(rows),
            };
            let hidden = leaf(kept.hidden.rows.clone());
            let skip = kept
                .skip
                .map(|skip| (skip, leaf(outputs[skip].rows.clone())));
            let conditions = PlaceConditions {
                time: match time_is_trained {
                    true => tracked(time.clone().inner()),
                    false => time.clone(),
                },
                ..conditions.clone()
            };
            let taken = skip
                .as_ref()
                .map(|(skip, rows)| outputs[*skip].with(rows.clone()));
            let at = kept.hidden.with(hidden.clone());
            let output = self.at(place, at, taken, kept.size, &conditions).rows;
            if !output.is_tracked() {
                break;
            }
            let mut gradients = (output * Tensor::from_inner(above)).sum().backward();
            if goes_on {
                gradient = hidden.grad_remove(&mut gradients);
                if let Some((skip, rows)) = skip {
                    of_outputs[skip] = rows.grad_remove(&mut gradients);
                }
            }
            if time_is_trained && let Some(found) = conditions.time.grad_remove(&mut gradients) {
                of_time = Some(match of_time {
                    Some(sum) => sum + found,
                    None => found,
                });
            }
            visit(gradients);
        }
        if let Some(above) = of_time {
            visit((time * Tensor::from_inner(above)).sum().backward());
        }
        loss.detach()
    }

    /// The inputs of all places, what the way down left, and the output.
    fn run_without_graph(
        &self,
        input: &UnetInput,
        conditions: &PlaceConditions,
        places: &[Place],
    ) -> (Vec<Kept>, Vec<Pixels>, Pixels) {
        let frozen = self.valid();
        let mut conditions = conditions.clone();
        conditions.time = conditions.time.inner();
        conditions.texts.rows = conditions.texts.rows.inner();
        let sample = self.sample(input);
        let mut hidden = sample.with(sample.rows.clone().inner());
        let (mut kept, mut outputs, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        for &place in places {
            let skip = place.takes_skip().then(|| skipped.pop()).flatten();
            let size = skipped.last().map(|&skip: &usize| {
                let skip: &Pixels = &outputs[skip];
                skip.size
            });
            let taken = skip.map(|skip: usize| outputs[skip].clone());
            let output = frozen.at(place, hidden.clone(), taken, size, &conditions);
            let left = place.leaves_skip().then(|| {
                skipped.push(outputs.len());
                outputs.push(output.clone());
                outputs.len() - 1
            });
            kept.push(Kept {
                hidden,
                skip,
                size,
                left,
            });
            hidden = output;
        }
        (kept, outputs, hidden)
    }
}

/// A leaf of a graph.
fn tracked(rows: Tensor<2>) -> Tensor<2> {
    Tensor::from_inner(rows).require_grad()
}
