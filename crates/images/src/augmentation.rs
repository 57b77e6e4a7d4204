//! Random crops and flips that training draws for every image of every epoch.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rgb_image::RgbImage;

/// How training images are augmented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Augment {
    /// No augmentation.
    #[default]
    None,
    /// Flip half of the images horizontally.
    Flip,
    /// Crop a random part, then flip as `flip` does.
    CropFlip,
}

/// The smallest and largest share of an image's area that a random crop keeps.
///
/// Default: [0.5, 1.0]; torchvision's 0.08 is meant for training from scratch on a million images
/// and would cut away the subject of the few images that an adapter is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "[f64; 2]", into = "[f64; 2]")]
pub struct CropScale {
    least: f64,
    most: f64,
}

impl Default for CropScale {
    fn default() -> Self {
        Self {
            least: 0.5,
            most: 1.0,
        }
    }
}

impl TryFrom<[f64; 2]> for CropScale {
    type Error = String;

    fn try_from([least, most]: [f64; 2]) -> Result<Self, String> {
        if 0.0 < least && least <= most && most <= 1.0 {
            Ok(Self { least, most })
        } else {
            Err(format!(
                "a crop keeps from {least} to {most} of the area, expected 0 < least ≤ most ≤ 1"
            ))
        }
    }
}

impl From<CropScale> for [f64; 2] {
    fn from(scale: CropScale) -> Self {
        [scale.least, scale.most]
    }
}

/// What happens to the images of a training run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augmentation {
    pub kind: Augment,
    pub crop_scale: CropScale,
}

/// Names one image in one epoch; the same name always draws the same, so a resumed run sees what
/// it would have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    pub seed: u64,
    pub epoch: u64,
    /// Of the image among the training rows.
    pub index: u64,
}

impl Draw {
    pub(crate) fn random(self) -> ChaCha8Rng {
        let mut key = [0; 32];
        let numbers = [self.seed, self.epoch, self.index];
        for (part, number) in key.chunks_exact_mut(8).zip(numbers) {
            part.copy_from_slice(&number.to_le_bytes());
        }
        ChaCha8Rng::from_seed(key)
    }

    /// The index of one of `count` things that go with the image, such as captions; drawn apart from what
    /// changes the image.
    ///
    /// # Panics
    /// If there is none.
    pub fn choose(self, count: usize) -> usize {
        const STREAM: u64 = 1;
        let mut random = self.random();
        random.set_stream(STREAM);
        random.random_range(0..count)
    }
}

/// Width to height of a random crop.
const ASPECTS: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];
const ATTEMPTS: usize = 10;

impl Augmentation {
    /// A part with a random area, aspect and place, as torchvision's `RandomResizedCrop` draws it; the
    /// largest part in the middle with a permitted aspect where ten draws did not fit.
    pub(crate) fn random_part(&self, image: &RgbImage, random: &mut ChaCha8Rng) -> RgbImage {
        let (width, height) = (image.width(), image.height());
        let area = (width * height) as f64;
        let CropScale { least, most } = self.crop_scale;
        let [narrowest, widest] = ASPECTS;
        for _ in 0..ATTEMPTS {
            let part = area * random.random_range(least..=most);
            let aspect = random.random_range(narrowest.ln()..=widest.ln()).exp();
            let columns = (part * aspect).sqrt().round() as usize;
            let lines = (part / aspect).sqrt().round() as usize;
            if (1..=width).contains(&columns) && (1..=height).contains(&lines) {
                let left = random.random_range(0..=width - columns);
                let top = random.random_range(0..=height - lines);
                return image.crop(left, top, columns, lines);
            }
        }
        let aspect = width as f64 / height as f64;
        let rounded = |side: f64, limit: usize| (side.round() as usize).clamp(1, limit);
        let (columns, lines) = if aspect < narrowest {
            (width, rounded(width as f64 / narrowest, height))
        } else if aspect > widest {
            (rounded(height as f64 * widest, width), height)
        } else {
            (width, height)
        };
        image.crop((width - columns) / 2, (height - lines) / 2, columns, lines)
    }

    pub(crate) fn flips(&self, random: &mut ChaCha8Rng) -> bool {
        self.kind != Augment::None && random.random_bool(0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(index: u64) -> Draw {
        Draw {
            seed: 7,
            epoch: 2,
            index,
        }
    }

    fn blank(width: usize, height: usize) -> RgbImage {
        RgbImage::new(width, height, vec![0; 3 * width * height])
    }

    /// Recorded once: another machine, or another release of rand, must draw the same, or a resumed
    /// run would see other images.
    #[test]
    fn the_draws_are_the_same_everywhere() {
        let augmentation = Augmentation {
            kind: Augment::CropFlip,
            ..Augmentation::default()
        };
        let drawn = [0, 1, 2, 3, 4].map(|index| {
            let mut random = draw(index).random();
            let part = augmentation.random_part(&blank(40, 30), &mut random);
            let flipped = augmentation.flips(&mut random);
            (part.width(), part.height(), flipped)
        });
        assert_eq!(drawn, RECORDED);
    }

    const RECORDED: [(usize, usize, bool); 5] = [
        (24, 29, false),
        (31, 24, false),
        (28, 27, false),
        (32, 29, true),
        (33, 26, false),
    ];

    #[test]
    fn seed_epoch_and_index_each_change_the_draw() {
        let number = |draw: Draw| draw.random().random::<u64>();
        let one = draw(5);
        assert_eq!(number(one), number(draw(5)));
        assert_ne!(number(one), number(draw(6)));
        assert_ne!(number(one), number(Draw { epoch: 3, ..one }));
        assert_ne!(number(one), number(Draw { seed: 8, ..one }));
    }

    #[test]
    fn what_is_chosen_depends_on_the_draw_and_not_on_the_flip() {
        let chosen = |index| draw(index).choose(2);
        let flipped = |index| usize::from(draw(index).random().random_bool(0.5));
        let mut counts = [[0_usize; 2]; 2];
        for index in 0..1000 {
            assert_eq!(chosen(index), chosen(index));
            counts[chosen(index)][flipped(index)] += 1;
        }
        // Five standard deviations of 1000 draws of one in four are 69.
        for count in counts.concat() {
            assert!(count.abs_diff(250) < 69, "{counts:?}");
        }
    }

    #[test]
    fn parts_keep_area_and_aspect_within_their_bounds() {
        let augmentation = Augmentation {
            kind: Augment::CropFlip,
            crop_scale: CropScale::try_from([0.2, 0.6]).unwrap(),
        };
        let image = blank(200, 160);
        let mut areas = Vec::new();
        for index in 0..400 {
            let part = augmentation.random_part(&image, &mut draw(index).random());
            let area = (part.width() * part.height()) as f64 / (200.0 * 160.0);
            let aspect = part.width() as f64 / part.height() as f64;
            // Sides are rounded to pixels, of which there are at least 60.
            assert!((0.2 * 0.98..=0.6 * 1.02).contains(&area), "{area}");
            assert!(
                (0.75 * 0.98..=4.0 / 3.0 * 1.02).contains(&aspect),
                "{aspect}"
            );
            areas.push(area);
        }
        let mean = areas.iter().sum::<f64>() / 400.0;
        // Uniform on [0.2, 0.6]: the mean of 400 is within 0.03 of 0.4 but for five in a million.
        assert!((mean - 0.4).abs() < 0.03, "{mean}");
    }

    #[test]
    fn a_strip_gives_its_middle() {
        let pixels = (0..90_u8).flat_map(|x| [x, 0, 0]).collect();
        let strip = RgbImage::new(90, 1, pixels);
        let augmentation = Augmentation {
            kind: Augment::CropFlip,
            crop_scale: CropScale::try_from([1.0, 1.0]).unwrap(),
        };
        let part = augmentation.random_part(&strip, &mut draw(0).random());
        assert_eq!((part.width(), part.height()), (1, 1));
        assert_eq!(part.pixels()[0], 44);
    }

    #[test]
    fn half_of_the_images_are_flipped_and_none_without_augmentation() {
        let flips = |kind| {
            let augmentation = Augmentation {
                kind,
                ..Augmentation::default()
            };
            (0..1000)
                .filter(|index| augmentation.flips(&mut draw(*index).random()))
                .count()
        };
        assert_eq!(flips(Augment::None), 0);
        // Five standard deviations of 1000 coins are 79.
        assert!(flips(Augment::Flip).abs_diff(500) < 79);
    }

    #[test]
    fn crops_of_nothing_or_more_than_all_are_refused() {
        for scale in [[0.0, 1.0], [0.7, 0.6], [0.5, 1.1], [f64::NAN, 1.0]] {
            let error = CropScale::try_from(scale).unwrap_err();
            assert!(error.contains("expected 0 < least"), "{error}");
        }
    }
}
