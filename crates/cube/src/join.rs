//! Many small tensors as one, a few of them with each launch.

use burn::cubecl;
use burn::tensor::{Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::{calculate_cube_count_elemwise, prelude::*};

use crate::operation::{Operation, in_order, queued, run, tensor, unwritten};

/// Tensors of a launch. With the output and what every kernel is told, that is as many buffers as every GPU binds
/// at a time but for the smallest ones.
const TOGETHER: usize = 8;

/// All values, one tensor after the other: `[Σ count]`.
///
/// - tensors: at least one, `[count]` each
pub fn join(tensors: Vec<Tensor<1>>) -> Tensor<1> {
    let inputs = tensors.into_iter().map(queued).collect();
    tensor(run(Join, inputs).remove(0))
}

#[derive(Debug)]
struct Join;

impl Operation for Join {
    const NAME: &'static str = "join";

    fn outputs(&self, inputs: &[Shape]) -> Vec<Shape> {
        let count: usize = inputs.iter().map(Shape::num_elements).sum();
        vec![Shape::new([count])]
    }

    fn run(&self, inputs: Vec<CubeTensor>) -> Vec<CubeTensor> {
        let inputs: Vec<CubeTensor> = inputs.into_iter().map(in_order).collect();
        let count = |tensor: &CubeTensor| tensor.meta.num_elements();
        let output = unwritten(&inputs[0], [inputs.iter().map(count).sum::<usize>()]);
        let mut start = 0;
        for tensors in inputs.chunks(TOGETHER) {
            let all: usize = tensors.iter().map(count).sum();
            let units = CubeDim::new(&output.client, all);
            let tensor = |place: usize| {
                let tensor = tensors.get(place).unwrap_or(&tensors[0]);
                tensor.clone().into_buffer_arg()
            };
            let end = |place: usize| tensors.iter().take(place + 1).map(count).sum::<usize>();
            // SAFETY: the kernel looks in which tensor a value is.
            unsafe {
                join_few::launch_unchecked(
                    &output.client,
                    calculate_cube_count_elemwise(&output.client, all, units),
                    units,
                    tensor(0),
                    tensor(1),
                    tensor(2),
                    tensor(3),
                    tensor(4),
                    tensor(5),
                    tensor(6),
                    tensor(7),
                    output.clone().into_buffer_arg(),
                    start,
                    all,
                    end(0),
                    end(1),
                    end(2),
                    end(3),
                    end(4),
                    end(5),
                    end(6),
                );
            }
            start += all;
        }
        vec![output]
    }
}

/// - ends: where in the joined values each tensor but the last ends
#[cube(launch_unchecked)]
fn join_few(
    a: &[f32],
    b: &[f32],
    c: &[f32],
    d: &[f32],
    e: &[f32],
    f: &[f32],
    g: &[f32],
    h: &[f32],
    output: &mut [f32],
    start: usize,
    all: usize,
    end_a: usize,
    end_b: usize,
    end_c: usize,
    end_d: usize,
    end_e: usize,
    end_f: usize,
    end_g: usize,
) {
    let place = ABSOLUTE_POS;
    if place >= all {
        terminate!();
    }
    let value = if place < end_a {
        a[place]
    } else if place < end_b {
        b[place - end_a]
    } else if place < end_c {
        c[place - end_b]
    } else if place < end_d {
        d[place - end_c]
    } else if place < end_e {
        e[place - end_d]
    } else if place < end_f {
        f[place - end_e]
    } else if place < end_g {
        g[place - end_f]
    } else {
        h[place - end_g]
    };
    output[start + place] = value;
}
