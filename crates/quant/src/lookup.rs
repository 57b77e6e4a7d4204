//! Looking values up by four-bit codes, the inner loop of every format with a table.

/// How a vector unit looks values up. What decodes is generic over it, is inlined whole, and so is
/// compiled for the unit of whoever calls it; [`Portable`] runs anywhere.
pub trait Lookup {
    /// The values of the low halves of sixteen bytes, then those of their high halves: the order of
    /// GGUF's blocks. Each is `table[code]` · scale, and + offset where there is one, rounded after each.
    ///
    /// # Safety
    /// The unit that the implementation is written for must be present.
    unsafe fn halves(
        table: &[f32; 16],
        scale: f32,
        offset: Option<f32>,
        codes: &[u8; 16],
        values: &mut [f32; 32],
    );

    /// The values of sixteen bytes, two a byte, the high half first: the order of bitsandbytes. Each is
    /// `table[code]` · scale.
    ///
    /// # Safety
    /// As for [`Lookup::halves`].
    unsafe fn pairs(table: &[f32; 16], scale: f32, codes: &[u8; 16], values: &mut [f32; 32]);
}

/// One value at a time, on any machine.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

impl Lookup for Portable {
    #[inline(always)]
    unsafe fn halves(
        table: &[f32; 16],
        scale: f32,
        offset: Option<f32>,
        codes: &[u8; 16],
        values: &mut [f32; 32],
    ) {
        let value = |code: u8| {
            let scaled = table[usize::from(code)] * scale;
            offset.map_or(scaled, |offset| scaled + offset)
        };
        let (low, high) = values.split_at_mut(16);
        for ((low, high), code) in low.iter_mut().zip(high).zip(codes) {
            *low = value(code & 15);
            *high = value(code >> 4);
        }
    }

    #[inline(always)]
    unsafe fn pairs(table: &[f32; 16], scale: f32, codes: &[u8; 16], values: &mut [f32; 32]) {
        let (pairs, _) = values.as_chunks_mut::<2>();
        for (pair, code) in pairs.iter_mut().zip(codes) {
            *pair = [code >> 4, code & 15].map(|code| table[usize::from(code)] * scale);
        }
    }
}
