//! What is added to products of matrices: an update of low rank, a bias, other products and a residual, in one pass.

use burn::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::halves::TypedRows;

/// Rows and columns of the output that a cube computes.
const TILE: usize = 64;
/// Units of a cube along each side.
const SIDE: usize = 16;
/// Rows and columns that a unit computes.
const EACH: usize = TILE / SIDE;
/// Columns of the factors that are shared at a time.
const STEP: usize = 8;
/// The width of a row of shared values; odd, so that neighbours are in different banks.
const SHARED: usize = STEP + 1;

/// Σ scale · product + T · Fᵀ + b + residual, into some columns of the output.
#[derive(Debug)]
pub(crate) struct LowRankSum<'a> {
    /// One to three, each `[rows, cols]`; scales are the same for all that have them.
    pub products: &'a [TypedRows],
    pub update: Option<ThinUpdate>,
    /// `[cols]`
    pub bias: Option<CubeTensor>,
    /// Of the size of the output.
    pub residual: Option<CubeTensor>,
    /// `[rows, width]`
    pub output: &'a CubeTensor,
    /// The first column.
    pub first: usize,
}

/// T · Fᵀ
#[derive(Debug)]
pub(crate) struct ThinUpdate {
    /// T `[rows, rank]`
    pub thin: CubeTensor,
    /// F `[cols, rank]`
    pub factor: CubeTensor,
}

impl LowRankSum<'_> {
    /// # Panics
    /// If there is no product, or more than three.
    pub fn launch(self) {
        let [rows, cols] = self.products[0].values.meta.shape().dims();
        let [_, width] = self.output.meta.shape().dims();
        // A kernel has all its arguments; those that it does not need stand for nothing.
        let any = &self.products[0].values;
        let product = |place: usize| {
            let product = self.products.get(place).map(|product| &product.values);
            product.unwrap_or(any).clone().into_buffer_arg()
        };
        let scales = self
            .products
            .iter()
            .find_map(|product| product.scales.as_ref());
        let is_scaled = |place: usize| {
            let product = self.products.get(place);
            product.is_some_and(|product| product.scales.is_some())
        };
        let or_any = |tensor: Option<&CubeTensor>| tensor.unwrap_or(any).clone().into_buffer_arg();
        let update = self.update.as_ref();
        let [_, rank] = update.map_or([0; 2], |update| update.factor.meta.shape().dims());
        assert!(self.products.len() <= 3, "up to three products");
        let cubes = [cols.div_ceil(TILE), rows.div_ceil(TILE)].map(|cubes| cubes as u32);
        let inputs = [0, 1, 2].map(product);
        let [first, second, third] = inputs;
        // SAFETY: the kernel stays within rows and columns, which are those of its arguments.
        unsafe {
            low_rank_sum::launch_unchecked(
                &any.client,
                CubeCount::Static(cubes[0], cubes[1], 1),
                CubeDim::new_2d(SIDE as u32, SIDE as u32),
                first,
                second,
                third,
                or_any(scales),
                or_any(update.map(|update| &update.thin)),
                or_any(update.map(|update| &update.factor)),
                or_any(self.bias.as_ref()),
                or_any(self.residual.as_ref()),
                self.output.clone().into_buffer_arg(),
                rows,
                cols,
                rank,
                self.first,
                width,
                self.products.len(),
                is_scaled(0),
                is_scaled(1),
                is_scaled(2),
                update.is_some(),
                self.bias.is_some(),
                self.residual.is_some(),
            );
        }
    }
}

#[cube]
fn scaled(value: f32, scales: &[f32], row: usize, #[comptime] is_scaled: bool) -> f32 {
    let mut found = value;
    if comptime!(is_scaled) {
        found *= scales[row];
    }
    found
}

#[cube(launch_unchecked)]
fn low_rank_sum(
    first_product: &[f32],
    second_product: &[f32],
    third_product: &[f32],
    scales: &[f32],
    thin: &[f32],
    factor: &[f32],
    bias: &[f32],
    residual: &[f32],
    output: &mut [f32],
    rows: usize,
    cols: usize,
    rank: usize,
    first: usize,
    width: usize,
    #[comptime] products: usize,
    #[comptime] first_is_scaled: bool,
    #[comptime] second_is_scaled: bool,
    #[comptime] third_is_scaled: bool,
    #[comptime] has_update: bool,
    #[comptime] has_bias: bool,
    #[comptime] has_residual: bool,
) {
    let x = UNIT_POS_X as usize;
    let y = UNIT_POS_Y as usize;
    let row_0 = CUBE_POS_Y as usize * TILE;
    let col_0 = CUBE_POS_X as usize * TILE;
    let mut sums = Array::<f32>::new(EACH * EACH);
    #[unroll]
    for place in 0..EACH * EACH {
        sums[place] = 0.0;
    }
    if comptime!(has_update) {
        let mut thin_tile = Shared::<[f32]>::new_slice(TILE * SHARED);
        let mut factor_tile = Shared::<[f32]>::new_slice(TILE * SHARED);
        let unit = y * SIDE + x;
        let mut start = 0usize;
        while start < rank {
            #[unroll]
            for part in 0..TILE * STEP / (SIDE * SIDE) {
                let place = part * SIDE * SIDE + unit;
                let line = place / STEP;
                let inner = place % STEP;
                let column = start + inner;
                let mut of_thin = 0.0f32;
                let mut of_factor = 0.0f32;
                if column < rank {
                    if row_0 + line < rows {
                        of_thin = thin[(row_0 + line) * rank + column];
                    }
                    if col_0 + line < cols {
                        of_factor = factor[(col_0 + line) * rank + column];
                    }
                }
                thin_tile[line * SHARED + inner] = of_thin;
                factor_tile[line * SHARED + inner] = of_factor;
            }
            sync_cube();
            #[unroll]
            for inner in 0..STEP {
                #[unroll]
                for row in 0..EACH {
                    let of_thin = thin_tile[(row * SIDE + y) * SHARED + inner];
                    #[unroll]
                    for col in 0..EACH {
                        sums[row * EACH + col] +=
                            of_thin * factor_tile[(col * SIDE + x) * SHARED + inner];
                    }
                }
            }
            sync_cube();
            start += STEP;
        }
    }
    #[unroll]
    for part in 0..EACH {
        let row = row_0 + part * SIDE + y;
        #[unroll]
        for other in 0..EACH {
            let col = col_0 + other * SIDE + x;
            if row < rows && col < cols {
                let place = row * cols + col;
                let target = row * width + first + col;
                let mut sum = sums[part * EACH + other];
                sum += scaled(first_product[place], scales, row, first_is_scaled);
                if comptime!(products > 1) {
                    sum += scaled(second_product[place], scales, row, second_is_scaled);
                }
                if comptime!(products > 2) {
                    sum += scaled(third_product[place], scales, row, third_is_scaled);
                }
                if comptime!(has_bias) {
                    sum += bias[col];
                }
                if comptime!(has_residual) {
                    sum += residual[target];
                }
                output[target] = sum;
            }
        }
    }
}
