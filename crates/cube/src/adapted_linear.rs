//! Frozen linear layers with updates of low rank on top.

use burn::tensor::{Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;

use crate::halves::{Converted, TypedRows};
use crate::linear_layers::{Factors, Layer, LinearLayer, Plan};
use crate::low_rank::{LowRankSum, ThinUpdate};
use crate::operation::{Operation, in_order, queued, run, tensor, unwritten};
use crate::thin::{self, ThinPart};

/// The outputs of layers with one input, side by side, on top of `residual`. Launches of a layer: the product with
/// W, the thin product x · R, and one kernel for everything else.
///
/// - input: `[rows, d_in]`
/// - residual, output: `[rows, Σ d_out]`
///
/// # Panics
/// If sizes do not fit each other.
pub fn adapted_linear(
    input: Tensor<2>,
    layers: Vec<LinearLayer>,
    residual: Option<Tensor<2>>,
) -> Tensor<2> {
    let [rows, d_in] = input.dims();
    let widths = layers.iter().map(|layer| layer.check(d_in));
    let width: usize = widths.sum();
    if let Some(residual) = &residual {
        assert_eq!(residual.dims(), [rows, width], "sizes of the residual");
    }
    let has_residual = residual.is_some();
    let mut inputs = vec![queued(input)];
    inputs.extend(residual.map(queued));
    let plan = Plan::of(layers, &mut inputs);
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
    let without_bias = layers.into_iter().map(|layer| LinearLayer {
        bias: None,
        ..layer
    });
    let plan = Plan::of(without_bias.collect(), &mut inputs);
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
        let mut kinds = Converted::new(input.clone());
        let is_plain = layers
            .iter()
            .all(|layer| layer.bias.is_none() && layer.update.is_none());
        let is_alone = layers.len() == 1 && residual.is_none() && is_plain;
        let (mut output, mut first) = (None, 0);
        for (layer, plan) in layers.into_iter().zip(&self.plan.0) {
            let base = layer.weight.product(&mut kinds);
            if is_alone && base.scales.is_none() {
                return vec![base.values];
            }
            let output = output.get_or_insert_with(|| unwritten(&input, [rows, self.plan.width()]));
            let update = layer.update.and_then(|update| {
                let (thin, factor) = (thin.next()?, update.left);
                Some(ThinUpdate { thin, factor })
            });
            LowRankSum {
                products: &[base],
                update,
                bias: layer.bias,
                residual: residual.clone(),
                output,
                first,
            }
            .launch();
            first += plan.shape[0];
        }
        output.into_iter().collect()
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
        let [rows, _] = gradient.meta.shape().dims();
        let mut kinds = Converted::new(gradient.clone());
        let (mut products, mut first) = (Vec::new(), 0);
        let (mut outer, mut updates) = (Vec::new(), Vec::new());
        for (Layer { weight, update, .. }, plan) in layers.into_iter().zip(&self.plan.0) {
            let [columns, _] = plan.shape;
            if self.wanted[0] {
                products.push(weight.input_gradient(&mut kinds, first..first + columns));
            }
            if let Some(update) = update {
                let factor = update.left.clone();
                outer.push(ThinPart {
                    first,
                    columns,
                    factor,
                });
                updates.push(update);
            }
            first += columns;
        }
        // dt, for the gradients of x and of right factors.
        let of_rights = self.wanted.iter().skip(2).step_by(2);
        let is_needed = self.wanted[0] || of_rights.copied().any(|is_wanted| is_wanted);
        let thin = match is_needed && !updates.is_empty() {
            true => thin::products(&gradient, &outer, &self.plan.scalings()),
            false => Vec::new(),
        };
        let of_factors = match &input {
            Some(input) => self.factor_gradients(input, &gradient, outer, &updates, &thin),
            None => Vec::new(),
        };
        let mut found = Vec::new();
        if self.wanted[0] {
            let updates = thin.into_iter().zip(updates);
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
        products: Vec<TypedRows>,
        updates: Vec<ThinUpdate>,
    ) -> CubeTensor {
        if let (
            [
                TypedRows {
                    values,
                    scales: None,
                },
            ],
            true,
        ) = (&products[..], updates.is_empty())
        {
            return values.clone();
        }
        let output = unwritten(&products[0].values, [rows, self.plan.d_in()]);
        let mut updates = updates.into_iter();
        let sum = |products: &[TypedRows], update| {
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
            let before = TypedRows {
                values: output.clone(),
                scales: None,
            };
            sum(&[before], Some(update));
        }
        output
    }
}
