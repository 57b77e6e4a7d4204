//! The order of the rows of query and key projections.

/// Which row of the GGUF file each row of the checkpoint is, for a query or key projection of a
/// family that [reorders heads](crate::GgufFamily::reorders_heads).
///
/// A head of d rows is [2, d/2] in the checkpoint and [d/2, 2] in the file: row `half · d/2 + pair`
/// is row `2 · pair + half` there.
///
/// - rows: of the whole projection
/// - heads: its number of heads (that of keys for a key projection); divides `rows` into even parts
pub fn gguf_row_order(rows: usize, heads: usize) -> Vec<u32> {
    let d_head = rows / heads.max(1);
    let pairs = d_head / 2;
    let mut order = Vec::with_capacity(rows);
    for head in 0..heads {
        for half in 0..2 {
            for pair in 0..pairs {
                // Fits: tables of more than 2³² rows are refused as implausible.
                order.push((head * d_head + 2 * pair + half) as u32);
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_head_are_every_other_row() {
        assert_eq!(
            gguf_row_order(12, 2),
            [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]
        );
    }
}
