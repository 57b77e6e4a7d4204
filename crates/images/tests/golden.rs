//! Bytes and numbers of Pillow, transformers and torchvision, made by the scripts in golden, which say how.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::Cursor;
use std::path::Path;

use eigenmix_images::{
    Draw, Filter, Framing, ImageHeader, ImagePreprocessor, Interpolation, Placement, RgbImage,
    decode, decode_upright, resize,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Golden<T> {
    cases: Vec<T>,
}

fn cases<T: DeserializeOwned>(content: &str) -> Vec<T> {
    let golden: Golden<T> = serde_json::from_str(content).unwrap();
    golden.cases
}

/// The script's `pattern`.
fn pattern([width, height]: [usize; 2]) -> RgbImage {
    let value = |x: usize, y: usize, channel: usize| {
        let value = 3 * x * x + 5 * y * y + 7 * x * y + 71 * channel + 13 * ((x ^ y) & 15);
        (value % 256) as u8
    };
    let pixels = (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| [0, 1, 2].map(|channel| value(x, y, channel))))
        .collect();
    RgbImage::new(width, height, pixels)
}

/// FNV-1a of 64 bits.
fn hash(bytes: impl IntoIterator<Item = u8>) -> String {
    let digest = bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
            (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{digest:016x}")
}

#[derive(Deserialize)]
struct Resampling {
    source: [usize; 2],
    target: [usize; 2],
    filter: u64,
    first: Vec<u8>,
    hash: String,
}

#[test]
fn every_filter_gives_the_bytes_that_pillow_gives() {
    let cases: Vec<Resampling> = cases(include_str!("golden/resampling.json"));
    assert_eq!(cases.len(), 84);
    for case in cases {
        let filter = Filter::from_number(case.filter).unwrap();
        let resized = resize(
            &pattern(case.source),
            case.target[0],
            case.target[1],
            filter,
        );
        let what = format!("{filter:?} {:?} → {:?}", case.source, case.target);
        assert_eq!(
            resized.pixels()[..case.first.len().min(resized.pixels().len())],
            case.first,
            "{what}"
        );
        assert_eq!(hash(resized.pixels().iter().copied()), case.hash, "{what}");
    }
}

#[derive(Deserialize)]
struct Preprocessing {
    config: serde_json::Value,
    source: [usize; 2],
    size: [usize; 2],
    first: Vec<f32>,
    last: Vec<f32>,
    hash: String,
}

#[test]
fn every_number_is_the_one_that_transformers_gives() {
    let cases: Vec<Preprocessing> = cases(include_str!("golden/preprocessing.json"));
    assert_eq!(cases.len(), 36);
    for case in cases {
        let what = format!("{} on {:?}", case.config, case.source);
        let preprocessor =
            ImagePreprocessor::from_config(&case.config, Path::new("golden")).unwrap();
        assert_eq!(preprocessor.size(), case.size, "{what}");
        let values = preprocessor.preprocess(&pattern(case.source)).unwrap();
        assert_eq!(values[..4], case.first, "{what}");
        assert_eq!(values[values.len() - 4..], case.last, "{what}");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        assert_eq!(hash(bytes), case.hash, "{what}");
    }
}

#[derive(Deserialize)]
struct Decoding {
    name: String,
    kind: String,
    size: [usize; 2],
    file: String,
    pixels: String,
}

impl Decoding {
    fn all() -> Vec<Self> {
        cases(include_str!("golden/decoding.json"))
    }

    fn file(&self) -> Vec<u8> {
        from_hex(&self.file)
    }

    fn decoded(&self) -> RgbImage {
        let image = decode(&self.file()).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        assert_eq!([image.width(), image.height()], self.size, "{}", self.name);
        image
    }
}

fn from_hex(digits: &str) -> Vec<u8> {
    digits
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn files_without_loss_decode_to_the_bytes_that_pillow_gives() {
    let mut seen = 0;
    for case in Decoding::all() {
        if case.kind == "exact" {
            let expected = from_hex(&case.pixels);
            assert_eq!(case.decoded().pixels(), expected, "{}", case.name);
            seen += 1;
        }
    }
    assert_eq!(seen, 34);
}

/// JPEG leaves the rounding of the inverse transform and the way coarse chroma is spread to the
/// decoder. The images cover the whole range of values, so that a wrong conversion of colours, or a
/// turned image, is off by far more than these bounds.
#[test]
fn files_with_loss_decode_to_nearly_the_bytes_that_pillow_gives() {
    let mut seen = 0;
    for case in Decoding::all() {
        if case.kind == "lossy" {
            let image = case.decoded();
            let expected = from_hex(&case.pixels);
            let differences = image.pixels().iter().zip(&expected);
            let differences: Vec<u8> = differences
                .map(|(left, right)| left.abs_diff(*right))
                .collect();
            let largest = differences.iter().max().unwrap();
            let mean = differences
                .iter()
                .map(|&found| f64::from(found))
                .sum::<f64>()
                / differences.len() as f64;
            let is_webp = case.name.ends_with(".webp");
            let (most, most_on_average) = if is_webp { (0, 0.0) } else { (4, 0.4) };
            let found = format!("{}: largest {largest}, mean {mean:.3}", case.name);
            assert!(*largest <= most && mean <= most_on_average, "{found}");
            seen += 1;
        }
    }
    assert_eq!(seen, 10);
}

#[test]
fn every_cut_of_every_file_is_an_error_or_an_image_and_never_a_panic() {
    for case in Decoding::all() {
        let file = case.file();
        for length in 0..file.len() {
            let _ = decode(&file[..length]);
        }
    }
}

#[test]
fn the_first_half_of_a_file_is_no_image() {
    for case in Decoding::all() {
        let file = case.file();
        assert!(decode(&file[..file.len() / 2]).is_err(), "{}", case.name);
    }
}

#[test]
fn damaged_bytes_never_panic() {
    for case in Decoding::all() {
        let file = case.file();
        for position in 0..file.len() {
            let mut damaged = file.clone();
            damaged[position] ^= [0x01, 0x80, 0xff][position % 3];
            let _ = decode(&damaged);
        }
    }
}

/// PNG has checksums; one changed bit in the image's data or palette must not become other pixels.
#[test]
fn a_damaged_png_never_becomes_another_image() {
    for case in Decoding::all() {
        if !case.name.ends_with(".png") {
            continue;
        }
        let file = case.file();
        let whole = case.decoded();
        for position in 8..file.len() {
            let mut damaged = file.clone();
            damaged[position] ^= 0x10;
            if let Ok(image) = decode(&damaged) {
                assert_eq!(image, whole, "{} with another byte {position}", case.name);
            }
        }
    }
}

#[derive(Deserialize)]
struct Framed {
    source: [usize; 2],
    target: [usize; 2],
    interpolation: Interpolation,
    mirrored: bool,
    resized: [usize; 2],
    centre: [usize; 2],
    crop: [usize; 2],
    first: Vec<f32>,
    hash: String,
}

#[test]
fn resized_cropped_and_mirrored_images_have_the_numbers_that_torchvision_gives() {
    let cases: Vec<Framed> = cases(include_str!("golden/framing.json"));
    assert_eq!(cases.len(), 132);
    for case in cases {
        let what = format!(
            "{:?} → {:?}, {:?}, mirrored: {}",
            case.source, case.target, case.interpolation, case.mirrored
        );
        let framing = Framing {
            interpolation: case.interpolation,
            ..Framing::default()
        };
        let draw = Draw {
            seed: 0,
            epoch: 0,
            index: 0,
        };
        let placement = framing.place(case.source, case.target, draw);
        assert_eq!(placement.resized, case.resized, "{what}");
        assert_eq!(placement.crop, case.centre, "{what}");
        let placement = Placement {
            crop: case.crop,
            mirrored: case.mirrored,
            ..placement
        };
        let [height, width] = case.source;
        let values = placement.pixels(&pattern([width, height])).unwrap();
        assert_eq!(values[..4], case.first, "{what}");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        assert_eq!(hash(bytes), case.hash, "{what}");
    }
}

#[derive(Deserialize)]
struct Oriented {
    name: String,
    size: [usize; 2],
    file: String,
    pixels: String,
}

#[test]
fn files_are_turned_upright_as_pillow_turns_them() {
    let cases: Vec<Oriented> = cases(include_str!("golden/orientation.json"));
    assert_eq!(cases.len(), 24);
    for case in cases {
        let name = &case.name;
        let file = from_hex(&case.file);
        let header = ImageHeader::read(Cursor::new(&file)).unwrap();
        assert_eq!(header.size(), case.size, "{name}");
        let image = decode_upright(&file).unwrap();
        assert_eq!([image.height(), image.width()], case.size, "{name}");
        let expected = from_hex(&case.pixels);
        let differences = image.pixels().iter().zip(&expected);
        let largest = differences.map(|(left, right)| left.abs_diff(*right)).max();
        // As above of JPEG; another orientation is off by far more.
        let most = if name.ends_with(".jpg") { 4 } else { 0 };
        assert!(largest <= Some(most), "{name}: {largest:?}");
    }
}

#[test]
fn headers_say_the_sizes_that_images_decode_to() {
    for case in Decoding::all() {
        let header = ImageHeader::read(Cursor::new(case.file())).unwrap();
        let turned = case.name == "rotated.jpg";
        let [width, height] = case.size;
        let expected = if turned {
            [width, height]
        } else {
            [height, width]
        };
        assert_eq!(header.size(), expected, "{}", case.name);
    }
}

#[test]
fn no_cut_and_no_damage_makes_the_reader_of_headers_panic() {
    for case in Decoding::all() {
        let file = case.file();
        for length in 0..file.len() {
            let _ = ImageHeader::read(Cursor::new(&file[..length]));
        }
        for position in 0..file.len().min(400) {
            let mut damaged = file.clone();
            damaged[position] ^= [0x01, 0x80, 0xff][position % 3];
            let _ = ImageHeader::read(Cursor::new(&damaged));
        }
        assert!(ImageHeader::read(Cursor::new(&file[..9])).is_err());
    }
    let text = ImageHeader::read(Cursor::new(b"<html>")).unwrap_err();
    assert!(text.to_string().contains("expected JPEG, PNG"), "{text}");
}
