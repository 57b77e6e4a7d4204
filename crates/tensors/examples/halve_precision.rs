//! Rounds every tensor of a safetensors file to bf16, where none of them overflows.
//!
//! `cargo run -p eigenmix-tensors --example halve_precision`

use eigenmix_tensors::{
    Dtype, FileError, Matrix, TensorFile, TensorOutput, encode, is_exact, write_tensor_file,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let (input, output) = (
        directory.path().join("f32.safetensors"),
        directory.path().join("bf16.safetensors"),
    );
    let [weight, scale] = [[4, 3], [1, 3]].map(|[rows, cols]| {
        Matrix::from_fn(rows, cols, |row, col| 0.1 * (row * cols + col) as f32)
    });
    let tensors = [("weight", &weight), ("scale", &scale)];
    let tensors = tensors.map(|(name, it)| TensorOutput::f32(name, it.shape(), it.values()));
    write_tensor_file(&input, tensors.to_vec())?;

    // The header is checked before anything is read.
    let file = TensorFile::open(&input)?;
    let rounded = file
        .names()
        .map(|name| {
            let values = file.read_finite_f32(name)?;
            println!(
                "{name} {:?}: {}",
                file.shape(name)?,
                match is_exact(&values, Dtype::BF16) {
                    true => "as it was",
                    false => "rounded",
                }
            );
            Ok((name, file.shape(name)?, encode(name, &values, Dtype::BF16)?))
        })
        .collect::<Result<Vec<_>, FileError>>()?;
    let outputs = rounded
        .iter()
        .map(|(name, shape, bytes)| TensorOutput::bytes(*name, *shape, Dtype::BF16, bytes));
    write_tensor_file(&output, outputs.collect())?;

    let halved = TensorFile::open(&output)?;
    println!("weight is now {:?}", halved.read_f32("weight")?);
    Ok(())
}
