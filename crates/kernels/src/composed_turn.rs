//! Rotary position embedding, composed of Burn's operations, whose backward pass keeps no rows: for devices
//! without the kernel.

use burn::tensor::{Device, Tensor, TensorData};

use crate::composition::{Composition, constant};
use crate::latest::Latest;

/// The turn of the first heads of rows `[rows, n · d_head]`; the others stay as they are.
#[derive(Clone, Debug)]
pub(crate) struct ComposedTurn {
    /// `[rows, 1, 1, d_head / 2]` each.
    cosines: Tensor<4>,
    sines: Tensor<4>,
    heads: usize,
}

impl ComposedTurn {
    /// - cosines, sines: `[rows, d_head / 2]`
    pub fn new(cosines: Tensor<2>, sines: Tensor<2>, heads: usize) -> Self {
        let [rows, half] = cosines.dims();
        let [cosines, sines] =
            [cosines, sines].map(|angles| constant(angles).reshape([rows, 1, 1, half]));
        Self {
            cosines,
            sines,
            heads,
        }
    }

    /// - sign: 1 for the turn, −1 for the turn back
    fn turned(&self, input: Tensor<2>, sign: f32) -> Tensor<2> {
        let ([rows, width], [.., half]) = (input.dims(), self.cosines.dims());
        let (all, device) = (width / (2 * half), input.device());
        let input = input.reshape([rows, all, 2, half]);
        // (a, b) and (b, a), so that a·cos − b·sin and b·cos + a·sin are one expression.
        let swapped = input.clone().flip([2]);
        let chosen = ChosenHeads::of(all, self.heads, &device);
        let sines = self.sines.clone() * chosen.signs * sign;
        let cosines = match chosen.are_turned {
            None => self.cosines.clone(),
            Some(are_turned) => (self.cosines.clone() - 1.0) * are_turned + 1.0,
        };
        (input * cosines + swapped * sines).reshape([rows, width])
    }
}

/// Which heads are turned.
#[derive(Clone, Debug)]
struct ChosenHeads {
    /// −1 and 1 for the halves of a head that is turned, zero for others: `[1, heads, 2, 1]`.
    signs: Tensor<4>,
    /// One for each head that is turned, zero for others: `[1, heads, 1, 1]`. `None` if all are.
    are_turned: Option<Tensor<4>>,
}

/// How many of these are kept: a model has one or two.
const KEPT: usize = 4;

static LATEST: Latest<(usize, usize, Device), ChosenHeads> = Latest::new();

impl ChosenHeads {
    fn of(all: usize, turned: usize, device: &Device) -> Self {
        let make = || {
            let tensor = |values: Vec<f32>, parts: usize| {
                let shape = [1, all, parts, 1];
                Tensor::<4>::from_data(TensorData::new(values, shape), device)
            };
            let are_turned: Vec<f32> = (0..all).map(|head| f32::from(head < turned)).collect();
            let signs = are_turned.iter().flat_map(|one| [-one, *one]).collect();
            let chosen = Self {
                signs: tensor(signs, 2),
                are_turned: (turned < all).then(|| tensor(are_turned, 1)),
            };
            ((all, turned, device.clone()), chosen)
        };
        let is_the_one = |key: &(usize, usize, Device)| *key == (all, turned, device.clone());
        LATEST.get(KEPT, is_the_one, make)
    }
}

impl Composition for ComposedTurn {
    type Kept = ();

    fn forward(&self, mut inputs: Vec<Tensor<2>>, _: bool) -> (Tensor<2>, ()) {
        (self.turned(inputs.remove(0), 1.0), ())
    }

    fn backward(&self, (): (), gradient: Tensor<2>, _: &[bool]) -> Vec<Option<Tensor<2>>> {
        vec![Some(self.turned(gradient, -1.0))]
    }
}
