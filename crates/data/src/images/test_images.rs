//! Images for tests: one colour, as uncompressed BMP.

/// A file of `width` × `height` pixels of one colour.
pub(crate) fn bmp(width: u32, height: u32, [red, green, blue]: [u8; 3]) -> Vec<u8> {
    let stride = (3 * width).next_multiple_of(4);
    let mut file = b"BM".to_vec();
    for number in [
        54 + stride * height,
        0,
        54,
        40,
        width,
        height,
        1 | 24 << 16,
        0,
    ] {
        file.extend(number.to_le_bytes());
    }
    file.extend([0; 20]);
    for _ in 0..height {
        for _ in 0..width {
            file.extend([blue, green, red]);
        }
        let padding = (stride - 3 * width) as usize;
        file.extend(std::iter::repeat_n(0, padding));
    }
    file
}
