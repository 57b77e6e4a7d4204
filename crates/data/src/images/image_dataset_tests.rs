//! Batches hold the values of the images asked for, and augmentation draws the same again.

use std::path::Path;

use eigenmix_images::Augment;

use super::*;
use crate::images::ImageSource;
use crate::images::test_images::bmp;
use crate::{DataConfig, EncodedTargets, Place, RawLabel, TargetKind, Targets, draw_examples};

fn row(line: usize, label: &str, image: &[u8]) -> ImageRow {
    ImageRow {
        source: ImageSource::Bytes(image.into()),
        label: Some(RawLabel::Text(label.to_owned())),
        place: Place {
            file: Path::new("train.parquet").into(),
            line,
        },
    }
}

/// Images of `[5 · index, 100, 7]` for a model that takes 4 × 6 pixels as they are.
fn dataset(count: u8) -> ImageDataset {
    let config = serde_json::json!({
        "image_processor_type": "ViTImageProcessor", "size": {"height": 4, "width": 6},
        "do_rescale": false, "do_normalize": false
    });
    let preprocessor = ImagePreprocessor::from_config(&config, Path::new("unused")).unwrap();
    let rows = (0..count)
        .map(|index| row(usize::from(index) + 1, "x", &bmp(9, 5, [5 * index, 100, 7])))
        .collect();
    ImageDataset::new(rows, preprocessor)
}

fn augmented(kind: Augment, epoch: usize) -> EpochAugmentation {
    EpochAugmentation {
        augmentation: Augmentation {
            kind,
            ..Augmentation::default()
        },
        seed: 11,
        epoch,
    }
}

#[test]
fn a_batch_is_its_images_in_the_order_asked_for() {
    let dataset = dataset(8);
    let batch = dataset.load_batch(&[6, 0, 3], None).unwrap();
    let expected: Vec<f32> = [30.0, 0.0, 15.0]
        .into_iter()
        .flat_map(|red| [red, 100.0, 7.0])
        .flat_map(|value| [value; 24])
        .collect();
    assert_eq!(batch, expected);
    assert_eq!(dataset.load(3).unwrap(), batch[144..]);
}

#[test]
fn an_epoch_shows_the_same_again_and_another_epoch_something_else() {
    let mut dataset = dataset(1);
    // An image whose every pixel differs: lines of other colours below each other, turned.
    let mut image = bmp(9, 5, [0, 0, 0]);
    for (index, byte) in image[54..].iter_mut().enumerate() {
        *byte = (index * 7 % 251) as u8;
    }
    dataset.rows[0] = row(1, "x", &image);
    let values = |epoch| {
        let augmented = augmented(Augment::CropFlip, epoch);
        dataset.load_augmented(0, augmented).unwrap()
    };
    assert_eq!(values(2), values(2));
    assert_ne!(values(2), values(3));
    let unchanged = dataset.load_augmented(0, augmented(Augment::None, 2));
    assert_eq!(unchanged.unwrap(), dataset.load(0).unwrap());
}

#[test]
fn a_batch_with_a_broken_image_names_its_row() {
    let mut dataset = dataset(5);
    dataset.rows[3] = row(4, "x", b"<html>");
    let error = dataset.load_batch(&[0, 3], None).unwrap_err().to_string();
    assert!(
        error.starts_with("train.parquet:4: cannot decode"),
        "{error}"
    );
    assert!(dataset.load_batch(&[0, 4], None).is_ok());
}

#[test]
fn labels_targets_and_draws_are_those_of_texts() {
    let rows: Vec<ImageRow> = (0..12)
        .map(|index| row(index + 1, ["dog", "cat", "owl"][index % 3], b""))
        .collect();
    let targets = Targets::from_train(TargetKind::Classification, &rows).unwrap();
    assert_eq!(
        targets.encode(&rows[..4]).unwrap(),
        EncodedTargets::Classes(vec![1, 0, 2, 1])
    );
    let config = DataConfig {
        examples_per_class: Some(2),
        ..DataConfig::new("unused")
    };
    let drawn = draw_examples(rows, &config, TargetKind::Classification, 4).unwrap();
    let EncodedTargets::Classes(mut classes) = targets.encode(&drawn).unwrap() else {
        panic!("expected classes");
    };
    classes.sort_unstable();
    assert_eq!(classes, [0, 0, 1, 1, 2, 2]);
}
