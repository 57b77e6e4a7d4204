//! How a camera was held, as EXIF notes it, and the image turned upright.

use crate::rgb_image::RgbImage;

/// The tag of the orientation among those of the first directory of EXIF.
const TAG: u16 = 0x0112;
/// What EXIF begins with in JPEG, and by mistake elsewhere.
const MARK: &[u8] = b"Exif\0\0";

/// How the lines of a file stand in the image, numbered from 1 to 8 as in EXIF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orientation(u8);

impl Orientation {
    /// That of a file which says nothing of it.
    pub const UPRIGHT: Self = Self(1);

    /// The orientation with this number in EXIF, if there is one.
    pub fn from_number(number: u16) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (1..=8).contains(&number).then_some(Self(number))
    }

    /// The orientation that EXIF says, with or without its mark. What is damaged or says nothing is
    /// upright, as in Pillow.
    pub(crate) fn of_exif(exif: &[u8]) -> Self {
        let exif = exif.strip_prefix(MARK).unwrap_or(exif);
        read(exif)
            .and_then(Self::from_number)
            .unwrap_or(Self::UPRIGHT)
    }

    /// Whether an upright image is as wide as the file says that it is high.
    pub fn swaps_sides(self) -> bool {
        self.0 > 4
    }

    /// The image as it was meant to be seen; Pillow's `ImageOps.exif_transpose`.
    pub fn upright(self, image: RgbImage) -> RgbImage {
        if self == Self::UPRIGHT {
            return image;
        }
        let (width, height) = (image.width(), image.height());
        let (right, bottom) = (width - 1, height - 1);
        let (columns, lines) = match self.swaps_sides() {
            true => (height, width),
            false => (width, height),
        };
        let mut pixels = Vec::with_capacity(image.pixels().len());
        for y in 0..lines {
            for x in 0..columns {
                let (from_x, from_y) = match self.0 {
                    2 => (right - x, y),
                    3 => (right - x, bottom - y),
                    4 => (x, bottom - y),
                    5 => (y, x),
                    6 => (y, bottom - x),
                    7 => (right - y, bottom - x),
                    _ => (right - y, x),
                };
                pixels.extend_from_slice(&image.line(from_y)[3 * from_x..][..3]);
            }
        }
        RgbImage::new(columns, lines, pixels)
    }
}

/// The number of the orientation in EXIF, which is a TIFF file without an image.
fn read(exif: &[u8]) -> Option<u16> {
    let is_little = match exif.first_chunk::<4>()? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let u16_at = |start: usize| {
        let bytes = *exif.get(start..)?.first_chunk()?;
        Some(match is_little {
            true => u16::from_le_bytes(bytes),
            false => u16::from_be_bytes(bytes),
        })
    };
    let u32_at = |start: usize| {
        let bytes = *exif.get(start..)?.first_chunk()?;
        Some(match is_little {
            true => u32::from_le_bytes(bytes),
            false => u32::from_be_bytes(bytes),
        })
    };
    let directory = u32_at(4)? as usize;
    for entry in 0..usize::from(u16_at(directory)?) {
        // A tag, a type, a count and a value, in twelve bytes.
        let start = directory.checked_add(2 + 12 * entry)?;
        if u16_at(start)? == TAG {
            return u16_at(start + 8);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXIF of two entries, the second of which is the orientation.
    fn exif(is_little: bool, number: u16) -> Vec<u8> {
        let mut bytes = if is_little { b"II*\0" } else { b"MM\0*" }.to_vec();
        let two = |value: u16| match is_little {
            true => value.to_le_bytes(),
            false => value.to_be_bytes(),
        };
        let four = |value: u32| match is_little {
            true => value.to_le_bytes(),
            false => value.to_be_bytes(),
        };
        bytes.extend(four(8));
        bytes.extend(two(2));
        for (tag, value) in [(0x0100, 7), (TAG, number)] {
            bytes.extend(two(tag));
            bytes.extend(two(3));
            bytes.extend(four(1));
            bytes.extend(two(value));
            bytes.extend([0; 2]);
        }
        bytes
    }

    #[test]
    fn the_orientation_is_read_in_either_order_of_bytes_and_with_its_mark() {
        for is_little in [true, false] {
            let bytes = exif(is_little, 6);
            assert_eq!(Orientation::of_exif(&bytes), Orientation(6));
            let marked = [MARK, &bytes].concat();
            assert_eq!(Orientation::of_exif(&marked), Orientation(6));
        }
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_upright() {
        let whole = exif(true, 8);
        let needed = 8 + 2 + 12 + 10;
        for length in 0..needed {
            let found = Orientation::of_exif(&whole[..length]);
            assert_eq!(found, Orientation::UPRIGHT, "{length}");
        }
        assert_eq!(Orientation::of_exif(&whole[..needed]), Orientation(8));
        for number in [0, 9, 300] {
            let found = Orientation::of_exif(&exif(false, number));
            assert_eq!(found, Orientation::UPRIGHT);
        }
        let mut far = whole.clone();
        far[4..8].fill(0xff);
        assert_eq!(Orientation::of_exif(&far), Orientation::UPRIGHT);
    }

    /// By hand of the letters a b c over d e f; tests/golden has what Pillow makes of a file.
    #[test]
    fn each_orientation_turns_the_letters_of_two_lines() {
        let grey = |letters: &str| letters.bytes().flat_map(|byte| [byte; 3]).collect();
        let image = RgbImage::new(3, 2, grey("abcdef"));
        for (number, expected) in [
            (1, "abcdef"),
            (2, "cbafed"),
            (3, "fedcba"),
            (4, "defabc"),
            (5, "adbecf"),
            (6, "daebfc"),
            (7, "fcebda"),
            (8, "cfbead"),
        ] {
            let orientation = Orientation::from_number(number).unwrap();
            let turned = orientation.upright(image.clone());
            let sides = (turned.width(), turned.height());
            let swapped = orientation.swaps_sides();
            assert_eq!(sides, if swapped { (2, 3) } else { (3, 2) }, "{number}");
            let expected: Vec<u8> = grey(expected);
            assert_eq!(turned.pixels(), expected, "{number}");
        }
    }
}
