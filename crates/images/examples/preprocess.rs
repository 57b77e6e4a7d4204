//! Decodes an image and makes what a vision model takes of it; without an argument, of a small BMP file
//! made here:
//!
//! ```text
//! cargo run -p eigenmix-images --example preprocess -- photo.jpg
//! ```

use std::error::Error;
use std::path::Path;

use eigenmix_images::{ImagePreprocessor, decode};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let bytes = match std::env::args().nth(1) {
        Some(path) => std::fs::read(path)?,
        None => gradient(64, 48),
    };
    let image = decode(&bytes)?;
    println!("{} × {} pixels", image.width(), image.height());

    // `ImagePreprocessor::from_dir` reads it from the directory of a model.
    let config = json!({"image_processor_type": "CLIPImageProcessor"});
    let preprocessor = ImagePreprocessor::from_config(&config, Path::new("this example"))?;
    let values = preprocessor.preprocess(&image)?;
    let [height, width] = preprocessor.size();
    println!("became [3, {height}, {width}]");
    for (name, channel) in ["red", "green", "blue"]
        .iter()
        .zip(values.chunks(height * width))
    {
        let mean = channel.iter().sum::<f32>() / channel.len() as f32;
        println!("mean of {name}: {mean:.4}");
    }
    Ok(())
}

/// A BMP file of 24 bits a pixel: red grows to the right, green upward. The width is a multiple of 4,
/// so that its lines need no padding.
fn gradient(width: u32, height: u32) -> Vec<u8> {
    let mut file = b"BM".to_vec();
    let depth = 1 | 24 << 16;
    for number in [54 + 3 * width * height, 0, 54, 40, width, height, depth, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend([0; 20]);
    for y in 0..height {
        for x in 0..width {
            file.extend([64, (255 * y / height) as u8, (255 * x / width) as u8]);
        }
    }
    file
}
