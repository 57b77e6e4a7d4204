//! Frozen linear layers with updates of low rank on top.

use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::kernel::{cast, slice};
use burn_cubecl::tensor::CubeTensor;

use crate::decoding::{FEW_ROWS, PackedLayout};
use crate::low_rank::{LowRankSum, ThinUpdate};
use crate::operation::{Operation, Queued, in_order, queued, run, tensor, unwritten};
use crate::packed::PackedMatrix;
use crate::product::{Converted, product, transposed};
use crate::thin::{self, ThinPart};

/// A frozen linear layer: x · Wᵀ + b + s · (x · R) · Lᵀ.
#[derive(Clone, Debug)]
pub struct LinearLayer {
    /// W `[d_out, d_in]`
    pub weight: LayerWeight,
    /// b `[1, d_out]`
    pub bias: Option<Tensor<2>>,
    pub update: Option<Update>,
}

/// A frozen weight.
#[derive(Clone, Debug)]
pub enum LayerWeight {
    /// In f32, or in half precision, which is multiplied in its own type.
    Values(Tensor<2>),
    /// Decoded where it is used; nothing decoded is kept.
    Packed(PackedMatrix),
}

/// An update s · L · Rᵀ.
#[derive(Clone, Debug)]
pub struct Update {
    /// L `[d_out, rank]`
    pub left: Tensor<2>,
    /// R `[d_in, rank]`
    pub right: Tensor<2>,
    /// s
    pub scaling: f32,
}

/// The outputs of layers with one input, side by side, on top of `residual`. Launches of a layer: the product with
/// W, the thin product x · R, and one kernel for everything else.
///
/// - input: `[rows, d_in]`
/// - residual, output: `[rows, Σ d_out]`
pub fn adapted_linear(
    input: Tensor<2>,
    layers: Vec<LinearLayer>,
    residual: Option<Tensor<2>>,
) -> Tensor<2> {
    let has_residual = residual.is_some();
    let mut inputs = vec![queued(input)];
    inputs.extend(residual.map(queued));
    let plan = Plan::of(layers, &mut inputs, Direction::Forth);
    let output = run(Forward { plan, has_residual }, inputs).remove(0);
    tensor(output)
}

/// The gradients of [`adapted_linear`]: of the input, and of left and right of each update, as far as they are
/// wanted. With t = s · x · R and dt = s · dy · L: dx = dy · W + dt · Rᵀ, dL = dyᵀ · t, dR = xᵀ · dt.
///
/// - input: of the forward pass, if a factor's gradient is wanted
/// - gradient: of the output
/// - wanted: of the input, then left and right of each update
pub fn adapted_linear_gradients(
    input: Option<Tensor<2>>,
    layers: Vec<LinearLayer>,
    gradient: Tensor<2>,
    wanted: &[bool],
) -> Vec<Option<Tensor<2>>> {
    if !wanted.contains(&true) {
        return vec![None; wanted.len()];
    }
    let has_input = input.is_some();
    let mut inputs = vec![queued(gradient)];
    inputs.extend(input.map(queued));
    let plan = Plan::of(layers, &mut inputs, Direction::Back);
    let operation = Backward {
        plan,
        has_input,
        wanted: wanted.to_vec(),
    };
    let mut found = run(operation, inputs).into_iter().map(tensor);
    let found = wanted
        .iter()
        .map(|is_wanted| is_wanted.then(|| found.next()).flatten());
    found.collect()
}

/// Which tensors the layers have, in the order in which they follow in the inputs of an operation.
#[derive(Debug)]
struct Plan(Vec<LayerPlan>);

#[derive(Debug)]
struct LayerPlan {
    packed: Option<PackedLayout>,
    has_bias: bool,
    scaling: Option<f32>,
    shape: [usize; 2],
    rank: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forth,
    Back,
}

/// A layer on the device.
struct Layer {
    weight: DeviceWeight,
    bias: Option<CubeTensor>,
    update: Option<Factors>,
}

struct Factors {
    left: CubeTensor,
    right: CubeTensor,
}

enum DeviceWeight {
    Values(CubeTensor),
    Packed(PackedLayout, Vec<CubeTensor>),
}

impl DeviceWeight {
    /// x · Wᵀ
    fn product(self, input: &mut Converted) -> CubeTensor {
        match self {
            Self::Values(values) => product(input.to(values.dtype), transposed(values)),
            Self::Packed(layout, tensors) => {
                let input = input.to(DType::F32);
                let [rows, _] = input.meta.shape().dims();
                match rows <= FEW_ROWS {
                    true => layout.product(&tensors, &input),
                    false => product(input, transposed(layout.decoded(&tensors, None))),
                }
            }
        }
    }

    /// dy · W
    fn input_gradient(self, gradient: CubeTensor) -> CubeTensor {
        match self {
            Self::Values(values) => product(cast(gradient, values.dtype), values),
            Self::Packed(layout, tensors) => product(gradient, layout.decoded(&tensors, None)),
        }
    }
}

impl Plan {
    /// - inputs: to which the tensors are added
    fn of(layers: Vec<LinearLayer>, inputs: &mut Vec<Queued>, direction: Direction) -> Self {
        let plans = layers.into_iter().map(|layer| {
            let (shape, packed) = match layer.weight {
                LayerWeight::Values(values) => {
                    let shape = values.dims();
                    inputs.push(queued(values));
                    (shape, None)
                }
                LayerWeight::Packed(matrix) => {
                    inputs.extend(matrix.queued());
                    (matrix.dims(), Some(matrix.layout()))
                }
            };
            let bias = layer.bias.filter(|_| direction == Direction::Forth);
            let has_bias = bias.is_some();
            inputs.extend(bias.map(queued));
            let (mut scaling, mut rank) = (None, 0);
            if let Some(update) = layer.update {
                scaling = Some(update.scaling);
                [_, rank] = update.left.dims();
                inputs.extend([update.left, update.right].map(queued));
            }
            LayerPlan {
                packed,
                has_bias,
                scaling,
                shape,
                rank,
            }
        });
        Self(plans.collect())
    }

    /// Σ d_out
    fn width(&self) -> usize {
        self.0.iter().map(|layer| layer.shape[0]).sum()
    }

    fn d_in(&self) -> usize {
        self.0[0].shape[1]
    }

    /// Of each update.
    fn scalings(&self) -> Vec<f32> {
        self.0.iter().filter_map(|layer| layer.scaling).collect()
    }

    fn layers(&self, tensors: impl Iterator<Item = CubeTensor>) -> Vec<Layer> {
        let mut tensors = tensors;
        let mut next = || tensors.next().expect("a tensor that the plan counts");
        let layers = self.0.iter().map(|plan| Layer {
            weight: match plan.packed {
                None => DeviceWeight::Values(next()),
                Some(layout) => {
                    let tensors = (0..layout.tensors()).map(|_| in_order(next()));
                    DeviceWeight::Packed(layout, tensors.collect())
                }
            },
            bias: plan.has_bias.then(|| in_order(next())),
            update: plan.scaling.is_some().then(|| Factors {
                left: in_order(next()),
                right: in_order(next()),
            }),
        });
        layers.collect()
    }
}

#[derive(Debug)]
struct Forward {
    plan: Plan,
    has_residual: bool,
}

impl Operation for Forward {
    const NAME: &'static str = "adapted_linear";

    fn outputs(&self, inputs: &[Shape]) -> Vec<Shape> {
        vec![Shape::new([inputs[0][0], self.plan.width()])]
    }

    fn run(&self, inputs: Vec<CubeTensor>) -> Vec<CubeTensor> {
        let mut inputs = inputs.into_iter();
        let input = in_order(inputs.next().expect("an input"));
        let residual = self.has_residual.then(|| inputs.next()).flatten();
        let residual = residual.map(in_order);
        let layers = self.plan.layers(inputs);
        let [rows, d_in] = input.meta.shape().dims();
        let output = unwritten(&input, [rows, self.plan.width()]);
        let parts = layers.iter().filter_map(|layer| layer.update.as_ref());
        let parts = parts.map(|update| ThinPart {
            first: 0,
            columns: d_in,
            factor: update.right.clone(),
        });
        let parts: Vec<ThinPart> = parts.collect();
        let mut thin = match parts.is_empty() {
            true => Vec::new(),
            false => thin::products(&input, &parts, &self.plan.scalings()),
        }
        .into_iter();
        let mut kinds = Converted::new(input);
        let mut first = 0;
        for (layer, plan) in layers.into_iter().zip(&self.plan.0) {
            let base = layer.weight.product(&mut kinds);
            let update = layer.update.and_then(|update| {
                let (thin, factor) = (thin.next()?, update.left);
                Some(ThinUpdate { thin, factor })
            });
            LowRankSum {
                products: &[in_order(base)],
                update,
                bias: layer.bias,
                residual: residual.clone(),
                output: &output,
                first,
            }
            .launch();
            first += plan.shape[0];
        }
        vec![output]
    }
}

#[derive(Debug)]
struct Backward {
    plan: Plan,
    has_input: bool,
    wanted: Vec<bool>,
}

impl Operation for Backward {
    const NAME: &'static str = "adapted_linear_gradients";

    fn outputs(&self, inputs: &[Shape]) -> Vec<Shape> {
        let rows = inputs[0][0];
        let updates = self.plan.0.iter().filter(|layer| layer.scaling.is_some());
        let of_factors = updates.flat_map(|layer| {
            let [d_out, d_in] = layer.shape;
            [[d_out, layer.rank], [d_in, layer.rank]]
        });
        let shapes = std::iter::once([rows, self.plan.d_in()]).chain(of_factors);
        let wanted = shapes
            .zip(&self.wanted)
            .filter(|(_, is_wanted)| **is_wanted);
        wanted.map(|(shape, _)| Shape::new(shape)).collect()
    }

    fn run(&self, inputs: Vec<CubeTensor>) -> Vec<CubeTensor> {
        let mut inputs = inputs.into_iter();
        let gradient = in_order(inputs.next().expect("a gradient"));
        let input = self.has_input.then(|| inputs.next()).flatten();
        let input = input.map(in_order);
        let layers = self.plan.layers(inputs);
        let [rows, all] = gradient.meta.shape().dims();
        let (mut products, mut first) = (Vec::new(), 0);
        let (mut outer, mut lefts) = (Vec::new(), Vec::new());
        for (Layer { weight, update, .. }, plan) in layers.into_iter().zip(&self.plan.0) {
            let [columns, _] = plan.shape;
            if self.wanted[0] {
                let part = match columns == all {
                    true => gradient.clone(),
                    false => slice(gradient.clone(), &[0..rows, first..first + columns]),
                };
                products.push(in_order(weight.input_gradient(part)));
            }
            if let Some(update) = update {
                let factor = update.left.clone();
                outer.push(ThinPart {
                    first,
                    columns,
                    factor,
                });
                lefts.push(update);
            }
            first += columns;
        }
        let thin = match lefts.is_empty() {
            true => Vec::new(),
            false => thin::products(&gradient, &outer, &self.plan.scalings()),
        };
        let of_factors = match &input {
            Some(input) => self.factor_gradients(input, &gradient, outer, &lefts, &thin),
            None => Vec::new(),
        };
        let mut found = Vec::new();
        if self.wanted[0] {
            let updates = thin.into_iter().zip(lefts);
            let updates = updates.map(|(thin, update)| ThinUpdate {
                thin,
                factor: update.right,
            });
            found.push(self.input_gradient(rows, products, updates.collect()));
        }
        found.extend(of_factors);
        found
    }
}

impl Backward {
    /// dL = dyᵀ · t and dR = xᵀ · dt, those that are wanted.
    ///
    /// - outer: the columns of dy that each update has
    /// - thin: dt of each
    fn factor_gradients(
        &self,
        input: &CubeTensor,
        gradient: &CubeTensor,
        outer: Vec<ThinPart>,
        updates: &[Factors],
        thin: &[CubeTensor],
    ) -> Vec<CubeTensor> {
        let [_, d_in] = input.meta.shape().dims();
        let wanted: Vec<[bool; 2]> = self.wanted[1..]
            .chunks_exact(2)
            .map(|pair| [pair[0], pair[1]])
            .collect();
        let inner = |factor: &CubeTensor| ThinPart {
            first: 0,
            columns: d_in,
            factor: factor.clone(),
        };
        let chosen = |side: usize| {
            let wanted = wanted.iter().enumerate();
            wanted.filter_map(move |(update, wanted)| wanted[side].then_some(update))
        };
        let (lefts, rights): (Vec<usize>, Vec<usize>) = (chosen(0).collect(), chosen(1).collect());
        let mut of_lefts = Vec::new();
        if !lefts.is_empty() {
            let parts = lefts.iter().map(|&update| inner(&updates[update].right));
            let scalings = self.plan.scalings();
            let scalings: Vec<f32> = lefts.iter().map(|&update| scalings[update]).collect();
            let thin = thin::products(input, &parts.collect::<Vec<_>>(), &scalings);
            let parts = lefts.iter().zip(thin).map(|(&update, factor)| ThinPart {
                factor,
                ..outer[update].clone()
            });
            of_lefts = thin::transposed_products(gradient, &parts.collect::<Vec<_>>());
        }
        let mut of_rights = Vec::new();
        if !rights.is_empty() {
            let parts = rights.iter().map(|&update| inner(&thin[update]));
            of_rights = thin::transposed_products(input, &parts.collect::<Vec<_>>());
        }
        let (mut of_lefts, mut of_rights) = (of_lefts.into_iter(), of_rights.into_iter());
        let mut found = Vec::new();
        for [left, right] in wanted {
            found.extend(left.then(|| of_lefts.next()).flatten());
            found.extend(right.then(|| of_rights.next()).flatten());
        }
        found
    }

    /// dx = Σ dy · W + Σ dt · Rᵀ
    fn input_gradient(
        &self,
        rows: usize,
        mut products: Vec<CubeTensor>,
        updates: Vec<ThinUpdate>,
    ) -> CubeTensor {
        if updates.is_empty() && products.len() == 1 {
            return products.remove(0);
        }
        let output = unwritten(&products[0], [rows, self.plan.d_in()]);
        let mut updates = updates.into_iter();
        let sum = |products: &[CubeTensor], update| {
            LowRankSum {
                products,
                update,
                bias: None,
                residual: None,
                output: &output,
                first: 0,
            }
            .launch();
        };
        sum(&products, updates.next());
        for update in updates {
            sum(&[output.clone()], Some(update));
        }
        output
    }
}
