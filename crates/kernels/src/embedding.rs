//! The sum of rows of several tables: what a token's vector is made of.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, FloatDType, Int, Shape, Tensor, TensorData, bf16, f16};
use rayon::prelude::*;

use crate::buffer::unwritten;
use crate::few_rows::{widen_bf16, widen_f16};
use crate::has_kernels;
use crate::tensor_list::TensorList;

/// How many rows a thread adds up at a time.
const ROWS: usize = 32;

/// Row i is the sum of row `indices[i]` of every table, in f32.
///
/// The kernel gives no gradients: where a table is trained, composed operations run.
///
/// # Shapes
/// - tables: each `[count, d_model]`, in any float type, with `[rows]` indices
/// - output: `[rows, d_model]`
///
/// # Panics
/// If there is no table or more than eight, an index is out of bounds, or sizes differ.
pub fn sum_of_rows(tables: &[(Tensor<2>, &[i32])]) -> Tensor<2> {
    let (first, _) = &tables[0];
    let device = first.device();
    let is_trained = tables.iter().any(|(table, _)| table.is_tracked());
    if !has_kernels(&device) || is_trained {
        return composed(tables);
    }
    // Of what is not trained nothing is to be differentiated.
    let untracked = |table: &Tensor<2>| match device.is_autodiff() {
        true => table.clone().inner(),
        false => table.clone(),
    };
    let mut inner = tables
        .iter()
        .map(|(table, _)| untracked(table).into_dispatch());
    let first = inner.next().expect("a table");
    let rows = Rows(tables.iter().map(|(_, indices)| indices.to_vec()).collect());
    let sum = Dispatch::fused_sum_of_rows(first, TensorList::new(inner.collect()), rows);
    let sum = Tensor::from_dispatch(sum);
    match device.is_autodiff() {
        true => Tensor::from_inner(sum),
        false => sum,
    }
}

fn composed(tables: &[(Tensor<2>, &[i32])]) -> Tensor<2> {
    let rows = tables.iter().map(|(table, indices)| {
        let data = TensorData::new(indices.to_vec(), [indices.len()]);
        let indices = Tensor::<1, Int>::from_data(data, &table.device());
        table.clone().select(0, indices).cast(FloatDType::F32)
    });
    rows.reduce(|sum, rows| sum + rows).expect("a table")
}

/// The indices into each table.
#[derive(Clone, Debug)]
pub(crate) struct Rows(Arc<[Vec<i32>]>);

#[backend_extension(Flex)]
pub(crate) trait SumOfRows: Backend {
    fn fused_sum_of_rows(
        first: FloatTensor<Self>,
        #[extension_type] others: TensorList<Self>,
        rows: Rows,
    ) -> FloatTensor<Self>;
}

impl SumOfRows for Flex {
    fn fused_sum_of_rows(first: FlexTensor, others: TensorList<Self>, rows: Rows) -> FlexTensor {
        let tables = std::iter::once(first).chain(others.into_vec());
        let tables: Vec<FlexTensor> = tables.map(|table| table.to_contiguous()).collect();
        let d_model = tables[0].layout().shape()[1];
        let Rows(indices) = rows;
        let rows_wanted = indices[0].len();
        for (table, indices) in tables.iter().zip(indices.iter()) {
            let [count, width] = [table.layout().shape()[0], table.layout().shape()[1]];
            assert_eq!(width, d_model, "rows of tables that are added up");
            assert_eq!(
                indices.len(),
                rows_wanted,
                "indices into tables that are added up"
            );
            let is_within = |&index: &i32| usize::try_from(index).is_ok_and(|index| index < count);
            assert!(
                indices.iter().all(is_within),
                "an index beyond {count} rows"
            );
        }
        let mut output = unwritten(Shape::from([rows_wanted, d_model]));
        output
            .storage_mut::<f32>()
            .par_chunks_mut(ROWS * d_model)
            .enumerate()
            .for_each(|(chunk, output)| {
                let mut row = vec![0.0; d_model];
                for (offset, sum) in output.chunks_exact_mut(d_model).enumerate() {
                    let place = chunk * ROWS + offset;
                    read(&tables[0], indices[0][place] as usize, sum);
                    for (table, indices) in tables.iter().zip(indices.iter()).skip(1) {
                        read(table, indices[place] as usize, &mut row);
                        sum.iter_mut()
                            .zip(&row)
                            .for_each(|(sum, term)| *sum += term);
                    }
                }
            });
        output
    }
}

/// Widens one row of a contiguous table.
fn read(table: &FlexTensor, index: usize, row: &mut [f32]) {
    let range = index * row.len()..(index + 1) * row.len();
    match table.dtype() {
        DType::BF16 => widen_bf16(&table.storage::<bf16>()[range], row),
        DType::F16 => widen_f16(&table.storage::<f16>()[range], row),
        _ => row.copy_from_slice(&table.storage::<f32>()[range]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn numbers(rows: usize, cols: usize, phase: f32, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = (0..rows * cols)
            .map(|i| (i as f32 * 0.91 + phase).sin())
            .collect();
        Tensor::from_data(TensorData::new(values, [rows, cols]), device)
    }

    #[test]
    fn rows_are_looked_up_and_added() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            let (words, positions) = (numbers(50, 7, 0.3, &device), numbers(90, 7, 1.3, &device));
            // More rows than a chunk, and a table in half precision.
            let words = words.cast(FloatDType::BF16);
            let ids: Vec<i32> = (0..80).map(|row| row * 13 % 50).collect();
            let columns: Vec<i32> = (0..80).collect();
            let tables = [(words, &ids[..]), (positions, &columns[..])];
            for tables in [&tables[..], &tables[..1]] {
                let difference = sum_of_rows(tables) - composed(tables);
                assert_eq!(difference.abs().max().into_scalar::<f32>(), 0.0);
            }
        }
    }

    #[test]
    #[should_panic(expected = "an index beyond 5 rows")]
    fn an_index_out_of_bounds_is_refused() {
        sum_of_rows(&[(numbers(5, 3, 0.0, &Device::flex()), &[0, 5])]);
    }
}
