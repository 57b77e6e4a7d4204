//! What the rows of an adapter in a GGUF file depend on: its base model.

use eigenmix_gguf::{GgufFamily, gguf_row_order};
use eigenmix_tensors::Matrix;

use crate::LoraModule;

/// The base model of an adapter in a GGUF file, as far as the file depends on it.
///
/// llama.cpp keeps the rows of the query and key projections of LLaMA in an order of its own, and the
/// rows of their B with them. The order depends on the numbers of heads, which adapters do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GgufBase {
    pub family: GgufFamily,
    /// The numbers of heads of queries and of keys, if they are known.
    pub heads: Option<[usize; 2]>,
    /// Whether the output layer is the table of tokens.
    pub is_tied: bool,
}

/// The end of a path, and which of the two numbers of heads is its own.
const REORDERED: [(&str, usize); 2] = [(".q_proj", 0), (".k_proj", 1)];

impl GgufBase {
    /// Whether the rows of a module lie in another order than in the checkpoint.
    pub(crate) fn reorders(&self, module: &str) -> bool {
        self.family.reorders_heads() && REORDERED.iter().any(|(end, _)| module.ends_with(end))
    }

    /// Which row of the file each of the `rows` of a module is; `None` if all are in their places.
    ///
    /// # Errors
    /// Why it cannot be told: the heads are not known, or the rows are not heads of an even size.
    pub(crate) fn row_order(
        &self,
        module: &str,
        rows: usize,
    ) -> Result<Option<Vec<u32>>, HeadProblem> {
        if !self.reorders(module) {
            return Ok(None);
        }
        let heads = self.heads.ok_or(HeadProblem::Unknown)?;
        let own = REORDERED.iter().find(|(end, _)| module.ends_with(end));
        let heads = own.map_or(0, |&(_, index)| heads[index]);
        let fits = heads > 0 && rows.is_multiple_of(heads) && (rows / heads).is_multiple_of(2);
        match fits && u32::try_from(rows).is_ok() {
            true => Ok(Some(gguf_row_order(rows, heads))),
            false => Err(HeadProblem::Rows { rows, heads }),
        }
    }
}

/// Why the order of the rows of a projection cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadProblem {
    Unknown,
    Rows { rows: usize, heads: usize },
}

/// Whose order rows are brought into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowsFor {
    Checkpoint,
    File,
}

/// B with its rows in the other order: `order` says which row of the file each row of the checkpoint is.
pub(crate) fn reordered(mut module: LoraModule, order: &[u32], rows_for: RowsFor) -> LoraModule {
    let (count, rank) = (module.d_out(), module.rank());
    let mut values = vec![0.0; count * rank];
    for (row, &in_file) in order.iter().enumerate() {
        let (from, to) = match rows_for {
            RowsFor::Checkpoint => (in_file as usize, row),
            RowsFor::File => (row, in_file as usize),
        };
        values[to * rank..][..rank].copy_from_slice(module.b.row(from));
    }
    module.b = Matrix::new(count, rank, values);
    module
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(heads: Option<[usize; 2]>) -> GgufBase {
        GgufBase {
            family: GgufFamily::Llama,
            heads,
            is_tied: false,
        }
    }

    #[test]
    fn queries_and_keys_have_heads_of_their_own_and_values_stay() {
        let base = base(Some([2, 1]));
        let of = |module: &str| base.row_order(&format!("model.layers.0.self_attn.{module}"), 8);
        assert_eq!(of("q_proj"), Ok(Some(vec![0, 2, 1, 3, 4, 6, 5, 7])));
        assert_eq!(of("k_proj"), Ok(Some(vec![0, 2, 4, 6, 1, 3, 5, 7])));
        assert_eq!(of("v_proj"), Ok(None));
    }

    #[test]
    fn rows_that_are_no_heads_of_an_even_size_are_a_problem() {
        let query = "model.layers.0.self_attn.q_proj";
        let unknown = base(None).row_order(query, 8);
        assert_eq!(unknown, Err(HeadProblem::Unknown));
        for (rows, heads) in [(8, 3), (6, 2), (8, 0)] {
            let found = base(Some([heads, heads])).row_order(query, rows);
            assert_eq!(found, Err(HeadProblem::Rows { rows, heads }));
        }
    }

    #[test]
    fn rows_go_there_and_back() {
        let b = Matrix::from_fn(8, 3, |row, col| (10 * row + col) as f32);
        let a = Matrix::from_fn(3, 5, |row, col| (row + col) as f32);
        let module = LoraModule::new(b, a, 0.5);
        let order = gguf_row_order(8, 2);
        let file = reordered(module.clone(), &order, RowsFor::File);
        // Row 1 of the first half of a head is row 2 of the file.
        assert_eq!(file.b.row(2), module.b.row(1));
        assert_eq!(reordered(file, &order, RowsFor::Checkpoint), module);
    }
}
