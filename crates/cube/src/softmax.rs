//! Scores of attention to probabilities, and their gradient: a row of scores is one cube's.

use burn::cubecl;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::attention::Seen;
use crate::operation::unwritten;
use crate::reduction::{cubes_for, largest_of_units, sum_of_units, units_for};
use crate::tanh::tanh;

/// Which scores a kernel has, and what is done with them.
#[derive(Clone, Debug)]
pub(crate) struct ScoreRule {
    /// `[sequences + 1]`, i32, of queries and of keys.
    pub offsets: CubeTensor,
    pub key_offsets: CubeTensor,
    /// Places of a sequence's queries, those for padding included.
    pub longest: usize,
    /// How many blocks of scores a sequence has: its heads of keys.
    pub blocks: usize,
    /// The first block, query and key of the scores.
    pub first_block: usize,
    pub first_query: usize,
    pub first_key: usize,
    pub scale: f32,
    pub softcap: Option<f32>,
    pub seen: Seen,
}

impl ScoreRule {
    /// The scores become probabilities: zero for keys that a query does not see, and for padding. Gives the slope
    /// of the cap, if there is one and it is asked for.
    ///
    /// - scores: `[blocks, heads · longest, keys]`
    pub fn probabilities(&self, scores: &CubeTensor, with_slope: bool) -> Option<CubeTensor> {
        let [blocks, rows, keys] = scores.meta.shape().dims();
        let slope = (with_slope && self.softcap.is_some())
            .then(|| unwritten(scores, scores.meta.shape().clone()));
        let count = blocks * rows;
        let units = units_for(keys);
        let window = match self.seen {
            Seen::Window(width) => width,
            _ => 0,
        };
        let slopes = slope.as_ref().unwrap_or(scores);
        // SAFETY: the kernel stays within the rows of scores, which are as many and as long as it is told.
        unsafe {
            softmax::launch_unchecked(
                &scores.client,
                cubes_for(count),
                CubeDim::new_1d(units as u32),
                self.offsets.clone().into_buffer_arg(),
                self.key_offsets.clone().into_buffer_arg(),
                scores.clone().into_buffer_arg(),
                slopes.clone().into_buffer_arg(),
                count,
                rows,
                keys,
                self.longest,
                self.blocks,
                self.first_block,
                self.first_query,
                self.first_key,
                window,
                self.scale,
                self.softcap.unwrap_or(1.0),
                units,
                self.seen == Seen::Everything,
                matches!(self.seen, Seen::Window(_)),
                self.softcap.is_some(),
                slope.is_some(),
            );
        }
        slope
    }

    /// The gradient of the probabilities becomes that of the products that the scores are of:
    /// dS = scale · P ⊙ (dP − Σ P ⊙ dP), times the slope of the cap.
    ///
    /// - probabilities, gradient: `[blocks, heads · longest, keys]`
    pub fn gradient(
        &self,
        probabilities: &CubeTensor,
        slope: Option<&CubeTensor>,
        gradient: &CubeTensor,
    ) {
        let [blocks, rows, keys] = gradient.meta.shape().dims();
        let count = blocks * rows;
        let units = units_for(keys);
        let slopes = slope.unwrap_or(probabilities);
        // SAFETY: as above.
        unsafe {
            softmax_gradient::launch_unchecked(
                &gradient.client,
                cubes_for(count),
                CubeDim::new_1d(units as u32),
                probabilities.clone().into_buffer_arg(),
                slopes.clone().into_buffer_arg(),
                gradient.clone().into_buffer_arg(),
                count,
                keys,
                self.scale,
                units,
                slope.is_some(),
            );
        }
    }
}

#[cube]
fn score(value: f32, scale: f32, cap: f32, #[comptime] has_cap: bool) -> f32 {
    let mut score = value * scale;
    if comptime!(has_cap) {
        score = tanh(score / cap) * cap;
    }
    score
}

/// Below every score that there is.
const LOWEST: f32 = -3.0e38;

#[cube(launch_unchecked)]
fn softmax(
    offsets: &[i32],
    key_offsets: &[i32],
    scores: &mut [f32],
    slopes: &mut [f32],
    count: usize,
    rows: usize,
    keys: usize,
    longest: usize,
    blocks: usize,
    first_block: usize,
    first_query: usize,
    first_key: usize,
    window: usize,
    scale: f32,
    cap: f32,
    #[comptime] units: usize,
    #[comptime] everything: bool,
    #[comptime] has_window: bool,
    #[comptime] has_cap: bool,
    #[comptime] with_slope: bool,
) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    // Cubes beyond the last row do as much as the last one, without writing.
    let line = clamp_max(CUBE_POS, count - 1);
    let start = line * keys;
    let query = first_query + line % rows % longest;
    let sequence = (first_block + line / rows) / blocks;
    let queries = offsets[sequence + 1] as usize - offsets[sequence] as usize;
    let seen_keys = key_offsets[sequence + 1] as usize - key_offsets[sequence] as usize;
    let mut first = 0usize;
    let mut end = seen_keys;
    if comptime!(!everything) {
        end = seen_keys + query + 1 - queries;
        if comptime!(has_window) {
            if end > window {
                first = end - window;
            }
        }
    }
    if query >= queries {
        first = 0usize;
        end = 0usize;
    }
    // Keys are counted from the first one of these scores on.
    if first > first_key {
        first -= first_key;
    } else {
        first = 0usize;
    }
    if end > first_key {
        end -= first_key;
    } else {
        end = 0usize;
    }
    if end > keys {
        end = keys;
    }
    let unit = UNIT_POS as usize;
    let mut largest = f32::new(LOWEST);
    let mut place = first + unit;
    while place < end {
        let value = score(scores[start + place], scale, cap, has_cap);
        if value > largest {
            largest = value;
        }
        place += units;
    }
    let largest = largest_of_units(largest, &mut shared);
    let mut sum = 0.0f32;
    let mut place = first + unit;
    while place < end {
        sum += (score(scores[start + place], scale, cap, has_cap) - largest).exp();
        place += units;
    }
    let share = 1.0f32 / sum_of_units(sum, &mut shared);
    if CUBE_POS < count {
        let mut place = unit;
        while place < keys {
            let mut value = 0.0f32;
            if place >= first && place < end {
                value = score(scores[start + place], scale, cap, has_cap);
                if comptime!(with_slope) {
                    slopes[start + place] = 1.0f32 - value * value / (cap * cap);
                }
                value = (value - largest).exp() * share;
            } else {
                if comptime!(with_slope) {
                    slopes[start + place] = 0.0f32;
                }
            }
            scores[start + place] = value;
            place += units;
        }
    }
}

#[cube(launch_unchecked)]
fn softmax_gradient(
    probabilities: &[f32],
    slopes: &[f32],
    gradient: &mut [f32],
    count: usize,
    keys: usize,
    scale: f32,
    #[comptime] units: usize,
    #[comptime] has_slope: bool,
) {
    let mut shared = Shared::<[f32]>::new_slice(units);
    let start = clamp_max(CUBE_POS, count - 1) * keys;
    let unit = UNIT_POS as usize;
    let mut along = 0.0f32;
    let mut place = unit;
    while place < keys {
        along += probabilities[start + place] * gradient[start + place];
        place += units;
    }
    let along = sum_of_units(along, &mut shared);
    if CUBE_POS < count {
        let mut place = unit;
        while place < keys {
            let probability = probabilities[start + place];
            let mut slope = scale * probability * (gradient[start + place] - along);
            if comptime!(has_slope) {
                slope *= slopes[start + place];
            }
            gradient[start + place] = slope;
            place += units;
        }
    }
}
