//! Tasks on little images: one distribution of scenes, and several questions about it.
//!
//! A scene is a coloured shape in one quadrant of a textured grey ground, with noise on all of it. Every
//! task shows scenes in which all attributes vary independently and asks for some of them, so what one
//! task teaches about seeing helps the next, though no task has another's labels. A model can be
//! trained from nothing on one question, adapters on others, and a last one be kept unseen.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::Random;
use super::png::rgb_png;

/// What can be asked about a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    Shape,
    Color,
    Texture,
    Quadrant,
}

pub const SHAPES: [&str; 4] = ["cross", "disc", "square", "stripes"];
pub const COLORS: [&str; 4] = ["blue", "green", "red", "yellow"];
pub const TEXTURES: [&str; 4] = ["checks", "gradient", "lines", "plain"];
pub const QUADRANTS: [&str; 4] = ["lower-left", "lower-right", "upper-left", "upper-right"];

impl Attribute {
    pub fn values(self) -> [&'static str; 4] {
        match self {
            Self::Shape => SHAPES,
            Self::Color => COLORS,
            Self::Texture => TEXTURES,
            Self::Quadrant => QUADRANTS,
        }
    }
}

/// How much of a task there is.
#[derive(Clone, Copy, Debug)]
pub struct TaskSize {
    /// Width and height of an image in pixels; 16 at least.
    pub side: usize,
    /// Images of each class in the training, the validation and the test split.
    pub per_class: [usize; 3],
}

/// Writes `dir/SPLIT/CLASS/NUMBER.png` for `train`, `validation` and `test`.
///
/// A class is a value of the attribute asked for, or of several joined with `_`: 4 classes for one
/// attribute, 16 for two. The same arguments give the same bytes everywhere; another seed, split or
/// question gives other scenes.
pub fn write_image_task(dir: &Path, asked: &[Attribute], size: TaskSize, seed: u64) {
    let classes = 4_usize.pow(u32::try_from(asked.len()).expect("a few"));
    let question = asked
        .iter()
        .fold(1, |number, &attribute| 5 * number + attribute as u64);
    let splits = ["train", "validation", "test"];
    for (split_number, (split, count)) in splits.into_iter().zip(size.per_class).enumerate() {
        for class in 0..classes {
            let values: Vec<usize> = (0..asked.len())
                .map(|place| class / 4_usize.pow(u32::try_from(place).expect("a few")) % 4)
                .collect();
            let names = asked.iter().zip(&values);
            let names: Vec<&str> = names
                .map(|(attribute, &value)| attribute.values()[value])
                .collect();
            let folder = dir.join(split).join(names.join("_"));
            fs::create_dir_all(&folder).expect("a directory");
            for image in 0..count {
                // Multiplied with odd numbers and scrambled by the generator, so that no two meet.
                let stream = [question, split_number as u64, class as u64, image as u64]
                    .into_iter()
                    .fold(seed, |mixed, number| {
                        (mixed ^ number)
                            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                            .rotate_left(23)
                    });
                let mut scene = Scene::random(&mut Random(stream));
                for (&attribute, &value) in asked.iter().zip(&values) {
                    scene.set(attribute, value);
                }
                let pixels = scene.paint(size.side, &mut Random(!stream));
                let path = folder.join(format!("{image:04}.png"));
                fs::write(path, rgb_png(size.side, size.side, &pixels)).expect("a file");
            }
        }
    }
}

/// Indices into the attributes' values.
#[derive(Clone, Copy, Debug)]
struct Scene {
    shape: usize,
    color: usize,
    texture: usize,
    quadrant: usize,
}

impl Scene {
    fn random(random: &mut Random) -> Self {
        let mut value = || (2.0 * (random.number() + 1.0)) as usize;
        Self {
            shape: value(),
            color: value(),
            texture: value(),
            quadrant: value(),
        }
    }

    fn set(&mut self, attribute: Attribute, value: usize) {
        match attribute {
            Attribute::Shape => self.shape = value,
            Attribute::Color => self.color = value,
            Attribute::Texture => self.texture = value,
            Attribute::Quadrant => self.quadrant = value,
        }
    }

    /// - output: `[side, side, 3]`
    fn paint(self, side: usize, random: &mut Random) -> Vec<u8> {
        const NOISE: f32 = 12.0;
        let length = side as f32;
        let [right, lower] = [self.quadrant % 2 == 1, self.quadrant < 2];
        let mut center = |far: bool| {
            let quarter = if far { 0.75 } else { 0.25 };
            length * (quarter + 0.04 * random.number())
        };
        let (center_x, center_y) = (center(right), center(lower));
        let radius = length * (0.18 + 0.02 * random.number());
        let color = [[60, 80, 210], [50, 180, 70], [205, 50, 50], [210, 190, 50]][self.color];
        let color = color.map(|value| value as f32 + 25.0 * random.number());
        let dark = 85.0 + 25.0 * random.number();
        let light = dark + 70.0 + 20.0 * random.number();
        let period = side / 8;
        let mut phase = || ((random.number() + 1.0) * period as f32) as usize;
        let (phase_x, phase_y) = (phase(), phase());

        let mut pixels = Vec::with_capacity(3 * side * side);
        for y in 0..side {
            for x in 0..side {
                let (across, down) = (x as f32 + 0.5 - center_x, y as f32 + 0.5 - center_y);
                let (column, line) = ((x + phase_x) / period, (y + phase_y) / period);
                let share = match TEXTURES[self.texture] {
                    "checks" => ((column + line) % 2) as f32,
                    "lines" => (column % 2) as f32,
                    "gradient" => y as f32 / length,
                    _ => 0.5,
                };
                let ground = [dark + (light - dark) * share; 3];
                let covered = covers(SHAPES[self.shape], across / radius, down / radius);
                for value in if covered { color } else { ground } {
                    let noisy = value + NOISE * random.number();
                    pixels.push(noisy.clamp(0.0, 255.0) as u8);
                }
            }
        }
        pixels
    }
}

/// Whether a shape of radius 1 covers the point.
fn covers(shape: &str, across: f32, down: f32) -> bool {
    let (x, y) = (across.abs(), down.abs());
    match shape {
        "disc" => x * x + y * y <= 1.0,
        "square" => x.max(y) <= 0.85,
        "cross" => x.max(y) <= 1.0 && x.min(y) <= 0.33,
        _ => x.max(y) <= 1.0 && (y <= 0.25 || y >= 0.7),
    }
}

/// Writes what a ViT is before it has weights: sizes and how images of `side` pixels are prepared.
pub fn write_vit(dir: &Path, side: usize) {
    let config = json!({
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": side,
        "patch_size": 4,
        "num_channels": 3,
        "hidden_act": "gelu",
        "qkv_bias": true,
        "layer_norm_eps": 1e-12
    });
    let preprocessor = json!({
        "image_processor_type": "ViTImageProcessor",
        "do_resize": true,
        "size": {"height": side, "width": side},
        "resample": 2,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25]
    });
    fs::create_dir_all(dir).expect("a directory");
    for (name, content) in [
        ("config.json", config),
        ("preprocessor_config.json", preprocessor),
    ] {
        fs::write(dir.join(name), content.to_string()).expect("a file");
    }
}
