//! An update with a mixer, and the plain LoRA factors that it folds into.
//!
//! `cargo run --release -p eigenmix-moslora --example fold_a_mixer`

use eigenmix_moslora::{MixerInit, moslora};
use eigenmix_tensors::Matrix;

fn main() {
    // [d_out, d_in] = [6, 5], rank 4, scaling 2, no dropout.
    let mut update = moslora(
        "layers.0.query",
        0,
        [6, 5],
        4,
        2.0,
        0.0,
        MixerInit::Orthogonal,
    );
    println!("{} trained parameters", update.trained_parameters());
    // As if B had been trained: it starts at zero.
    update.left.matrix = Matrix::from_fn(6, 4, |row, col| (row + 2 * col) as f32 / 10.0);
    let folded = update.fold();
    let (b, a) = folded.folded();
    println!(
        "B' {:?} and A {:?}: what every tool reads",
        b.shape(),
        a.shape()
    );
    println!("norm of the update: {:.4}", folded.update().norm());
}
