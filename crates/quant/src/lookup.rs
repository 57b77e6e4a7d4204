//! Looking values up by four-bit codes, the inner loop of every format with a table.

/// How a vector unit looks values up. What decodes is generic over it, is inlined whole, and so is
/// compiled for the unit of whoever calls it; [`Portable`] runs anywhere.
pub trait Lookup {
    /// Every value of a table · scale.
    ///
    /// # Safety
    /// The unit that the implementation is written for must be present.
    unsafe fn scaled(table: &[f32; 16], scale: f32) -> [f32; 16];

    /// Every value of a table · scale + offset, rounded twice.
    ///
    /// # Safety
    /// As for [`Lookup::scaled`].
    unsafe fn shifted(table: &[f32; 16], scale: f32, offset: f32) -> [f32; 16];

    /// The values of the low halves of sixteen bytes, then those of their high halves: the order of
    /// GGUF's blocks.
    ///
    /// # Safety
    /// As for [`Lookup::scaled`].
    unsafe fn halves(table: &[f32; 16], codes: &[u8; 16], values: &mut [f32; 32]);

    /// The values of sixteen bytes, two a byte, the high half first: the order of bitsandbytes.
    ///
    /// # Safety
    /// As for [`Lookup::scaled`].
    unsafe fn pairs(table: &[f32; 16], codes: &[u8; 16], values: &mut [f32; 32]);
}

/// One value at a time, on any machine.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

impl Lookup for Portable {
    #[inline(always)]
    unsafe fn scaled(table: &[f32; 16], scale: f32) -> [f32; 16] {
        table.map(|value| value * scale)
    }

    #[inline(always)]
    unsafe fn shifted(table: &[f32; 16], scale: f32, offset: f32) -> [f32; 16] {
        table.map(|value| value * scale + offset)
    }

    #[inline(always)]
    unsafe fn halves(table: &[f32; 16], codes: &[u8; 16], values: &mut [f32; 32]) {
        let (low, high) = values.split_at_mut(16);
        for ((low, high), code) in low.iter_mut().zip(high).zip(codes) {
            *low = table[usize::from(code & 15)];
            *high = table[usize::from(code >> 4)];
        }
    }

    #[inline(always)]
    unsafe fn pairs(table: &[f32; 16], codes: &[u8; 16], values: &mut [f32; 32]) {
        let (pairs, _) = values.as_chunks_mut::<2>();
        for (pair, code) in pairs.iter_mut().zip(codes) {
            *pair = [table[usize::from(code >> 4)], table[usize::from(code & 15)]];
        }
    }
}
