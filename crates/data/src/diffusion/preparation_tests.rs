//! Sizes that fit a model and a configuration, and images that are too small for them.

use std::path::Path;

use eigenmix_images::Crop;

use super::*;
use crate::images::{ImageRow, ImageSource};
use crate::row::Place;

fn config(table: &str) -> DataConfig {
    toml::from_str(&format!("path = \"d\"\n{table}")).unwrap()
}

fn preparation(table: &str, multiple: usize) -> Result<ImagePreparation, String> {
    let usual = Resolution::square(512);
    let found = config(table).preparation(usual, multiple);
    found.map_err(|error| error.to_string())
}

fn image(line: usize, size: [usize; 2]) -> CaptionedImage {
    CaptionedImage {
        image: ImageRow {
            source: ImageSource::Bytes([].into()),
            label: None,
            place: Place {
                file: Path::new("train.parquet").into(),
                line,
            },
        },
        size,
        captions: vec!["a fox".to_owned()],
    }
}

#[test]
fn the_resolution_is_that_of_the_file_or_else_the_models() {
    let sizes = |table: &str| preparation(table, 64).unwrap().sizes();
    assert_eq!(sizes(""), [[512, 512]]);
    assert_eq!(sizes("resolution = 768"), [[768, 768]]);
    assert_eq!(sizes("resolution = [640, 384]"), [[384, 640]]);
}

#[test]
fn a_resolution_that_leaves_a_rest_is_refused_with_the_nearest() {
    let error = preparation("resolution = 500", 64).unwrap_err();
    assert!(
        error.contains("500 × 500 pixels") && error.ends_with("the nearest are 448 and 512"),
        "{error}"
    );
    let error = preparation("resolution = [640, 350]", 32).unwrap_err();
    assert!(error.ends_with("[640, 320] and [640, 352]"), "{error}");
    let error = preparation("resolution = 0", 8).unwrap_err();
    assert!(error.ends_with("the nearest are 8"), "{error}");
}

#[test]
fn keys_of_buckets_are_checked_and_need_buckets() {
    for (table, expected) in [
        (
            "bucket_step = 32",
            "`data.bucket_step` has no effect without",
        ),
        (
            "bucket_aspect = 2",
            "`data.bucket_aspect` has no effect without",
        ),
        (
            "buckets = true\nbucket_step = 40",
            "multiples of 64: 64, 128, 192",
        ),
        ("buckets = true\nbucket_step = 0", "`data.bucket_step` is 0"),
        (
            "buckets = true\nbucket_aspect = 0.5",
            "`data.bucket_aspect` is 0.5",
        ),
        (
            "buckets = true\nbucket_aspect = nan",
            "`data.bucket_aspect` is NaN",
        ),
        (
            "buckets = true\nbucket_step = 1024",
            "no image has at most the pixels of `data.resolution` (512 × 512)",
        ),
    ] {
        let error = preparation(table, 64).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    assert!(preparation("buckets = true\nbucket_aspect = 1", 64).is_ok());
}

#[test]
fn images_get_the_bucket_nearest_to_their_proportions() {
    let preparation = preparation("buckets = true", 64).unwrap();
    assert_eq!(preparation.target([900, 900]), [512, 512]);
    assert_eq!(preparation.target([1000, 1500]), [384, 640]);
    let images = [[900, 900], [1000, 1500], [2000, 3000]].map(|size| image(1, size));
    let (images, notes) = preparation.prepare(images.to_vec()).unwrap();
    assert_eq!(images.targets(), [[512, 512], [384, 640], [384, 640]]);
    let expected = "the sizes that 3 images get (width × height): 640 × 384: 2, 512 × 512: 1";
    assert_eq!(notes, [expected]);
}

#[test]
fn small_images_are_refused_enlarged_or_left_out_as_asked_for() {
    let sizes = [[512, 512], [511, 900], [3000, 400]];
    let images = || (0..3).map(|index| image(index + 1, sizes[index])).collect();
    let prepared = |table: &str, images: Vec<CaptionedImage>| {
        let preparation = preparation(table, 64).unwrap();
        let prepared = preparation.prepare(images);
        prepared.map_err(|error| error.to_string())
    };
    let named =
        "train.parquet:2 (900 × 511 for 512 × 512), train.parquet:3 (400 × 3000 for 512 × 512)";
    let error = prepared("", images()).unwrap_err();
    assert!(
        error.starts_with("2 of 3 images are smaller") && error.contains(named),
        "{error}"
    );
    let (kept, notes) = prepared("small_images = \"enlarge\"", images()).unwrap();
    assert_eq!(kept.len(), 3);
    assert!(
        notes[0].contains("are enlarged") && notes[0].contains(named),
        "{notes:?}"
    );
    let (kept, notes) = prepared("small_images = \"skip\"", images()).unwrap();
    assert_eq!(kept.len(), 1);
    assert!(
        notes[0].contains("are left out") && notes[0].contains(named),
        "{notes:?}"
    );
    let all = (0..9).map(|line| image(line, [100, 100])).collect();
    let error = prepared("small_images = \"skip\"", all).unwrap_err();
    assert!(
        error.starts_with("all 9 images") && error.contains("and 4 more"),
        "{error}"
    );
    let (_, notes) = prepared("", vec![image(1, [512, 512])]).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn evaluations_take_the_middle_and_nothing_drawn() {
    let training = preparation(
        "crop = \"random\"\nflip = true\ninterpolation = \"lanczos\"",
        64,
    );
    let training = training.unwrap();
    assert!(!training.is_fixed());
    let evaluation = training.for_evaluation();
    assert!(evaluation.is_fixed());
    let framing = Framing {
        crop: Crop::Centre,
        flip: false,
        ..training.framing
    };
    assert_eq!(evaluation.framing, framing);
    assert!(!preparation("flip = true", 64).unwrap().is_fixed());
    assert!(
        preparation("interpolation = \"bicubic\"", 64)
            .unwrap()
            .is_fixed()
    );
}
