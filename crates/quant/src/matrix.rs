//! A matrix in few bits, whose rows are decoded piece by piece.

use bytes::Bytes;

use crate::blocks::{self, plain_bf16, plain_f16, plain_f32};
use crate::codebook::CodebookMatrix;
use crate::grouped::GroupedMatrix;
use crate::row_scaled::RowScaledMatrix;
use crate::{Encoding, Lookup, Portable, QuantError, k_blocks};

/// A matrix `[rows, cols]` as it is stored: mapped from a file, or in memory of its own. Clones share
/// the bytes.
#[derive(Clone, Debug)]
pub struct EncodedMatrix {
    shape: [usize; 2],
    form: Form,
}

/// A new form is a variant here and a file of its own.
#[derive(Clone, Debug)]
enum Form {
    /// Rows of blocks, as in GGUF files; of 16-bit and f32 tensors too.
    Blocks {
        encoding: Encoding,
        row_bytes: usize,
        bytes: Bytes,
    },
    Codebook(CodebookMatrix),
    RowScaled(RowScaledMatrix),
    Grouped(GroupedMatrix),
}

impl From<CodebookMatrix> for EncodedMatrix {
    fn from(matrix: CodebookMatrix) -> Self {
        Self {
            shape: matrix.shape(),
            form: Form::Codebook(matrix),
        }
    }
}

impl From<RowScaledMatrix> for EncodedMatrix {
    fn from(matrix: RowScaledMatrix) -> Self {
        Self {
            shape: matrix.shape(),
            form: Form::RowScaled(matrix),
        }
    }
}

impl From<GroupedMatrix> for EncodedMatrix {
    fn from(matrix: GroupedMatrix) -> Self {
        Self {
            shape: matrix.shape(),
            form: Form::Grouped(matrix),
        }
    }
}

impl EncodedMatrix {
    /// Rows of blocks, one row after the other.
    ///
    /// - shape: `[rows, cols]`
    ///
    /// # Errors
    /// If a row is not a whole number of blocks, or there are more or fewer bytes.
    pub fn blocks(encoding: Encoding, shape: [usize; 2], bytes: Bytes) -> Result<Self, QuantError> {
        let [rows, cols] = shape;
        let row_bytes = encoding.row_bytes(cols).ok_or(QuantError::RowLength {
            encoding: encoding.name(),
            block: encoding.block_len(),
            found: cols,
        })?;
        QuantError::check_size("the blocks", rows.checked_mul(row_bytes), bytes.len())?;
        let form = Form::Blocks {
            encoding,
            row_bytes,
            bytes,
        };
        Ok(Self { shape, form })
    }

    /// `[rows, cols]`
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The block format, if the matrix is one of rows of blocks.
    pub fn encoding(&self) -> Option<Encoding> {
        match &self.form {
            Form::Blocks { encoding, .. } => Some(*encoding),
            _ => None,
        }
    }

    /// Row `row` of a matrix of rows of blocks, as it is stored.
    ///
    /// # Panics
    /// If there are fewer rows.
    #[inline]
    pub fn encoded_row(&self, row: usize) -> Option<(Encoding, &[u8])> {
        match &self.form {
            Form::Blocks {
                encoding,
                row_bytes,
                bytes,
            } => Some((*encoding, &bytes[row * row_bytes..][..*row_bytes])),
            _ => None,
        }
    }

    /// All bytes of a matrix of rows of blocks, as they are stored.
    pub fn block_bytes(&self) -> Option<(Encoding, &[u8])> {
        match &self.form {
            Form::Blocks {
                encoding, bytes, ..
            } => Some((*encoding, bytes)),
            _ => None,
        }
    }

    /// The matrix of groups of columns, if it is one.
    pub fn grouped(&self) -> Option<&GroupedMatrix> {
        match &self.form {
            Form::Grouped(matrix) => Some(matrix),
            _ => None,
        }
    }

    /// The matrix of codes of a table, if it is one.
    pub fn codebook(&self) -> Option<&CodebookMatrix> {
        match &self.form {
            Form::Codebook(matrix) => Some(matrix),
            _ => None,
        }
    }

    /// The matrix of eight bits with a scale for each row, if it is one.
    pub fn row_scaled(&self) -> Option<&RowScaledMatrix> {
        match &self.form {
            Form::RowScaled(matrix) => Some(matrix),
            _ => None,
        }
    }

    /// What people call the form, such as `Q4_K` or `NF4`.
    pub fn name(&self) -> &'static str {
        match &self.form {
            Form::Blocks { encoding, .. } => encoding.name(),
            Form::Codebook(matrix) => matrix.name(),
            Form::RowScaled(_) => "int8",
            Form::Grouped(matrix) => matrix.name(),
        }
    }

    /// How many bytes it takes, in memory or of a mapped file.
    pub fn size(&self) -> usize {
        match &self.form {
            Form::Blocks { bytes, .. } => bytes.len(),
            Form::Codebook(matrix) => matrix.size(),
            Form::RowScaled(matrix) => matrix.size(),
            Form::Grouped(matrix) => matrix.size(),
        }
    }

    /// Pieces of a row are decoded without detours where they start and end at a multiple of this, or
    /// end with the row.
    pub fn granularity(&self) -> usize {
        match &self.form {
            Form::Blocks { encoding, .. } => encoding.block_len(),
            Form::Codebook(matrix) => matrix.block(),
            Form::RowScaled(_) => 1,
            Form::Grouped(matrix) => matrix.group(),
        }
    }

    /// The same matrix with its rows in another order, in memory of its own.
    ///
    /// - order: for each row of the result, the row of this matrix
    ///
    /// # Errors
    /// If the order is not one of this many rows, or the form's rows cannot be moved.
    pub fn with_rows(&self, order: &[u32]) -> Result<Self, QuantError> {
        let Form::Blocks {
            encoding,
            row_bytes,
            bytes,
        } = &self.form
        else {
            return Err(QuantError::RowOrder {
                problem: "its form is not one of rows",
            });
        };
        let is_row = |&row: &u32| (row as usize) < self.shape[0];
        if order.len() != self.shape[0] || !order.iter().all(is_row) {
            return Err(QuantError::RowOrder {
                problem: "the order names other rows",
            });
        }
        let mut moved = Vec::with_capacity(bytes.len());
        for &row in order {
            moved.extend_from_slice(&bytes[row as usize * row_bytes..][..*row_bytes]);
        }
        Self::blocks(*encoding, self.shape, moved.into())
    }

    /// Decodes `values.len()` values of row `row` from column `first` on.
    ///
    /// # Panics
    /// If the row has fewer.
    pub fn read(&self, row: usize, first: usize, values: &mut [f32]) {
        // SAFETY: it needs no unit.
        unsafe { self.decode::<Portable>(row, first, values) }
    }

    /// All values in f32, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        let [rows, cols] = self.shape;
        let mut values = vec![0.0; rows * cols];
        if cols > 0 {
            for (row, values) in values.chunks_exact_mut(cols).enumerate() {
                self.read(row, 0, values);
            }
        }
        values
    }

    /// As [`EncodedMatrix::read`], inlined into the caller and so compiled for its vector unit.
    ///
    /// # Safety
    /// The unit of the lookup must be present.
    ///
    /// # Panics
    /// If the row has fewer values.
    #[inline(always)]
    pub unsafe fn decode<L: Lookup>(&self, row: usize, first: usize, values: &mut [f32]) {
        let [rows, cols] = self.shape;
        assert!(
            row < rows && first <= cols && values.len() <= cols - first,
            "a piece of a row of an encoded matrix"
        );
        match &self.form {
            Form::Blocks {
                encoding,
                row_bytes,
                bytes,
            } => {
                let row = &bytes[row * row_bytes..][..*row_bytes];
                decode_blocks::<L>(*encoding, row, first, values);
            }
            // SAFETY: the caller's.
            Form::Codebook(matrix) => unsafe {
                matrix.decode::<L>(row * cols + first, values);
            },
            Form::RowScaled(matrix) => matrix.decode(row, first, values),
            Form::Grouped(matrix) => matrix.decode(row, first, values),
        }
    }
}

/// Decodes the blocks of `$values`, of which the first and the last may be cut off.
///
/// Not a function that takes one: a closure is compiled for no vector unit but the oldest.
macro_rules! each_block {
    ($row:ident, $first:ident, $values:ident, $decode:expr) => {{
        let (blocks, length) = lengths_of($row, &$decode);
        let mut blocks = blocks[$first / length..].iter();
        let mut rest = $values;
        let skipped = $first % length;
        if skipped > 0
            && let Some(block) = blocks.next()
        {
            let count = rest.len().min(length - skipped);
            let (start, others) = rest.split_at_mut(count);
            let mut whole = array_for(&$decode);
            $decode(block, &mut whole);
            start.copy_from_slice(&whole[skipped..skipped + count]);
            rest = others;
        }
        let (whole, tail) = chunks_for(&$decode, rest);
        for (values, block) in whole.iter_mut().zip(&mut blocks) {
            $decode(block, values);
        }
        if !tail.is_empty()
            && let Some(block) = blocks.next()
        {
            let mut whole = array_for(&$decode);
            $decode(block, &mut whole);
            tail.copy_from_slice(&whole[..tail.len()]);
        }
    }};
}

/// The blocks of a row, and the number of values of each.
#[inline(always)]
fn lengths_of<'r, const BYTES: usize, const LEN: usize>(
    row: &'r [u8],
    _decode: &impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) -> (&'r [[u8; BYTES]], usize) {
    (row.as_chunks().0, LEN)
}

#[inline(always)]
fn array_for<const BYTES: usize, const LEN: usize>(
    _decode: &impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) -> [f32; LEN] {
    [0.0; LEN]
}

/// As many values as whole blocks have, and the rest.
#[inline(always)]
fn chunks_for<'v, const BYTES: usize, const LEN: usize>(
    _decode: &impl Fn(&[u8; BYTES], &mut [f32; LEN]),
    values: &'v mut [f32],
) -> (&'v mut [[f32; LEN]], &'v mut [f32]) {
    values.as_chunks_mut()
}

/// - row: all bytes of a row
#[inline(always)]
fn decode_blocks<L: Lookup>(encoding: Encoding, row: &[u8], first: usize, values: &mut [f32]) {
    match encoding {
        Encoding::F32 => plain_f32(&row[first * 4..][..values.len() * 4], values),
        Encoding::F16 => plain_f16(&row[first * 2..][..values.len() * 2], values),
        Encoding::Bf16 => plain_bf16(&row[first * 2..][..values.len() * 2], values),
        Encoding::Q4_0 => each_block!(row, first, values, blocks::q4_0::<L>),
        Encoding::Q4_1 => each_block!(row, first, values, blocks::q4_1::<L>),
        Encoding::Q5_0 => each_block!(row, first, values, blocks::q5_0),
        Encoding::Q5_1 => each_block!(row, first, values, blocks::q5_1),
        Encoding::Q8_0 => each_block!(row, first, values, blocks::q8_0),
        Encoding::Iq4Nl => each_block!(row, first, values, blocks::iq4_nl::<L>),
        Encoding::Q2K => each_block!(row, first, values, k_blocks::q2_k),
        Encoding::Q3K => each_block!(row, first, values, k_blocks::q3_k),
        Encoding::Q4K => each_block!(row, first, values, k_blocks::q4_k),
        Encoding::Q5K => each_block!(row, first, values, k_blocks::q5_k),
        Encoding::Q6K => each_block!(row, first, values, k_blocks::q6_k),
        Encoding::Iq4Xs => each_block!(row, first, values, k_blocks::iq4_xs::<L>),
    }
}
