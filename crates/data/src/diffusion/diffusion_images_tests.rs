//! Pixels, captions and fingerprints of images.

use std::fs;
use std::path::Path;

use eigenmix_images::{Resolution, encode_png};

use super::*;
use crate::DataConfig;
use crate::images::{ImageRow, ImageSource, bmp};
use crate::row::Place;

fn image(bytes: &[u8], size: [usize; 2]) -> CaptionedImage {
    CaptionedImage {
        image: ImageRow {
            source: ImageSource::Bytes(bytes.into()),
            label: None,
            place: Place {
                file: Path::new("train.parquet").into(),
                line: 3,
            },
        },
        size,
        captions: vec!["a fox".to_owned(), "a red fox".to_owned()],
    }
}

fn prepared(table: &str, images: Vec<CaptionedImage>) -> DiffusionImages {
    let config: DataConfig = toml::from_str(&format!("path = \"d\"\n{table}")).unwrap();
    let preparation = config.preparation(Resolution::square(4), 2).unwrap();
    preparation.prepare(images).unwrap().0
}

#[test]
fn an_image_becomes_its_pixels_and_the_conditions_on_its_size() {
    let images = prepared("", vec![image(&bmp(9, 6, [255, 0, 51]), [6, 9])]);
    let placement = images.place(0, 1, 0);
    let pixels = images.load(0, &placement).unwrap();
    let expected = [1.0, -1.0, 51.0_f32 / 255.0 / 0.5 - 1.0];
    for (channel, expected) in pixels.chunks(16).zip(expected) {
        assert!(channel.iter().all(|value| (value - expected).abs() < 1e-6));
    }
    // Resized to 4 × 6, of which the middle begins at column 1.
    assert_eq!(placement.time_ids(), [6.0, 9.0, 0.0, 1.0, 4.0, 4.0]);
}

#[test]
fn an_epoch_shows_the_same_again_and_other_epochs_other_parts_and_captions() {
    let bytes = bmp(40, 6, [1, 2, 3]);
    let images = prepared(
        "crop = \"random\"\nflip = true",
        vec![image(&bytes, [6, 40])],
    );
    let shown = |epoch| (images.place(0, 5, epoch), images.caption(0, 5, epoch));
    assert_eq!(shown(3), shown(3));
    let placements: Vec<Placement> = (0..20).map(|epoch| shown(epoch).0).collect();
    assert!(
        placements
            .iter()
            .any(|other| other.crop != placements[0].crop)
    );
    assert!(placements.iter().any(|other| other.mirrored));
    assert!(placements.iter().any(|other| !other.mirrored));
    let captions: Vec<&str> = (0..20).map(|epoch| shown(epoch).1).collect();
    assert!(captions.contains(&"a fox") && captions.contains(&"a red fox"));
}

/// Recorded once (by hashlib of Python: the version, the digest of the bytes, the numbers of the placement in
/// 64 bits each, whether it is mirrored, the filter): a cache of latents is of no use if it changes.
#[test]
fn the_fingerprint_is_the_same_everywhere() {
    let images = prepared("", vec![image(b"the bytes of an image", [6, 9])]);
    let placement = images.place(0, 1, 0);
    assert_eq!(images.fingerprint(0, &placement).unwrap(), RECORDED);
}

const RECORDED: &str = "e19bbe352bb73b8fb9beff423b3ce8251f9e1b1e52e18c208f87f6519177215a";

#[test]
fn the_fingerprint_changes_with_whatever_changes_the_pixels_and_with_nothing_else() {
    let image_of = |bytes: &[u8]| image(bytes, [6, 40]);
    let of = |table: &str, bytes: &[u8], epoch: usize| {
        let images = prepared(table, vec![image_of(bytes)]);
        images.fingerprint(0, &images.place(0, 5, epoch)).unwrap()
    };
    let one = of("", b"a", 0);
    assert_eq!(one.len(), 64);
    assert_eq!(
        one,
        of("", b"a", 1),
        "the middle is the same in every epoch"
    );
    assert_ne!(one, of("", b"b", 0));
    assert_ne!(one, of("interpolation = \"lanczos\"", b"a", 0));
    assert_ne!(one, of("resolution = 2", b"a", 0));
    assert_ne!(one, of("buckets = true\nbucket_step = 2", b"a", 0));
    let random: Vec<String> = (0..8)
        .map(|epoch| of("crop = \"random\"", b"a", epoch))
        .collect();
    assert!(random.iter().any(|other| *other != random[0]));
    let mirrored: Vec<String> = (0..20)
        .map(|epoch| of("flip = true", b"a", epoch))
        .collect();
    assert!(mirrored.contains(&one) && mirrored.iter().any(|other| *other != one));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    fs::write(&path, b"a").unwrap();
    let mut in_file = image_of(b"");
    in_file.image.source = ImageSource::File(path);
    in_file.captions = vec!["another".to_owned()];
    let images = prepared("", vec![in_file]);
    let placement = images.place(0, 6, 0);
    assert_eq!(images.fingerprint(0, &placement).unwrap(), one);
    let images = prepared("", vec![image_of(b"a")]);
    assert_eq!(images.fingerprint(0, &placement).unwrap(), one);
}

#[test]
fn broken_and_changed_images_name_their_row() {
    let png = encode_png(&eigenmix_images::RgbImage::new(9, 6, vec![7; 162]), &[]).unwrap();
    let cut = &png[..png.len() / 2];
    let images = prepared("", vec![image(cut, [6, 9])]);
    let placement = images.place(0, 1, 0);
    let error = images.load(0, &placement).unwrap_err().to_string();
    assert!(
        error.starts_with("train.parquet:3: cannot decode"),
        "{error}"
    );
    let images = prepared("", vec![image(&bmp(9, 6, [0; 3]), [6, 10])]);
    let placement = images.place(0, 1, 0);
    let error = images.load(0, &placement).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("says height 6 and width 10"), "{source}");
}
