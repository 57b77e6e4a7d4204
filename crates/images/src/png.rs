//! Writing PNG files, with texts about the image in them.

use std::io::{self, Write};

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

use crate::RgbImage;

/// The bytes of a PNG file: 8-bit RGB, every line as differences to the line above.
///
/// - texts: keyword (1 to 79 Latin letters) and text; they are kept in UTF-8
///
/// # Errors
/// If the image is larger than the format allows.
pub fn encode_png(image: &RgbImage, texts: &[(&str, String)]) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    for side in [image.width(), image.height()] {
        let side = u32::try_from(side).map_err(io::Error::other)?;
        header.extend(side.to_be_bytes());
    }
    // 8 bits, RGB, and the only compression, filtering and no interlacing.
    header.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    push_chunk(&mut file, b"IHDR", &header)?;
    for (keyword, text) in texts {
        // Not compressed; no language, no translated keyword.
        let content = [keyword.as_bytes(), &[0; 5], text.as_bytes()].concat();
        push_chunk(&mut file, b"iTXt", &content)?;
    }
    let line = 3 * image.width();
    let mut compressed = ZlibEncoder::new(Vec::new(), Compression::default());
    let mut above = vec![0u8; line];
    for pixels in image.pixels().chunks_exact(line.max(1)) {
        const UP: u8 = 2;
        compressed.write_all(&[UP])?;
        let differences = pixels.iter().zip(&above);
        let differences: Vec<u8> = differences
            .map(|(value, above)| value.wrapping_sub(*above))
            .collect();
        compressed.write_all(&differences)?;
        above.copy_from_slice(pixels);
    }
    push_chunk(&mut file, b"IDAT", &compressed.finish()?)?;
    push_chunk(&mut file, b"IEND", &[])?;
    Ok(file)
}

fn push_chunk(file: &mut Vec<u8>, kind: &[u8; 4], content: &[u8]) -> io::Result<()> {
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    file.extend(length.to_be_bytes());
    let mut sum = Crc::new();
    for part in [&kind[..], content] {
        file.extend(part);
        sum.update(part);
    }
    file.extend(sum.sum().to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    #[test]
    fn an_image_comes_back_as_it_was_and_carries_its_texts() {
        let (width, height) = (5, 3);
        let pixels: Vec<u8> = (0..3 * width * height).map(|at| (at * 37) as u8).collect();
        let image = RgbImage::new(width, height, pixels);
        let texts = [("prompt", "ein Fuchs im Schnee, 雪".to_owned())];
        let file = encode_png(&image, &texts).expect("a small image");
        assert_eq!(decode(&file).expect("a PNG"), image);
        let text = texts[0].1.as_bytes();
        assert!(file.windows(text.len()).any(|window| window == text));
    }
}
