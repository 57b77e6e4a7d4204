//! The little images that image trainings are tested on, read as a training reads them.

mod support;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use eigenmix_data::{
    DataConfig, EncodedTargets, ImageDataset, ImagePreprocessor, LabelPolicy, Labelled, Split,
    TargetKind, Targets, read_image_split,
};
use serde_json::json;
use support::image_tasks::{Attribute, QUADRANTS, TaskSize, write_image_task};

const SIZE: TaskSize = TaskSize {
    side: 16,
    per_class: [5, 2, 3],
};

/// Images as they are: values 0 … 255 of 16 × 16 pixels.
fn dataset(dir: &Path, split: Split) -> ImageDataset {
    let config = DataConfig::new("unused");
    let found = read_image_split(dir, split, &config, LabelPolicy::Required).expect("a split");
    assert!(found.notes.is_empty(), "{:?}", found.notes);
    let config = json!({"image_processor_type": "ViTImageProcessor", "size": SIZE.side,
                        "do_rescale": false, "do_normalize": false});
    let preprocessor = ImagePreprocessor::from_config(&config, Path::new("test")).expect("valid");
    ImageDataset::new(found.rows, preprocessor)
}

fn classes(dataset: &ImageDataset) -> Vec<String> {
    let labels = dataset
        .rows()
        .iter()
        .map(|row| row.label().expect("a label"));
    labels.map(ToString::to_string).collect()
}

/// Red, green and blue of each pixel: `[height · width][3]`.
fn pixels(values: &[f32]) -> Vec<[f32; 3]> {
    let area = SIZE.side * SIZE.side;
    let pixel = |index| [0, 1, 2].map(|channel| values[channel * area + index]);
    (0..area).map(pixel).collect()
}

fn saturation(pixel: &[f32; 3]) -> f32 {
    let largest = pixel.iter().copied().fold(0.0, f32::max);
    largest - pixel.iter().copied().fold(255.0, f32::min)
}

#[test]
fn every_split_has_as_many_images_of_each_class_as_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let asked = [Attribute::Shape, Attribute::Color];
    write_image_task(dir.path(), &asked, SIZE, 3);
    for (split, count) in [(Split::Train, 5), (Split::Validation, 2), (Split::Test, 3)] {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for class in classes(&dataset(dir.path(), split)) {
            *counts.entry(class).or_default() += 1;
        }
        assert_eq!(counts.len(), 16);
        assert!(counts.contains_key("stripes_yellow"), "{counts:?}");
        assert!(counts.values().all(|found| *found == count), "{counts:?}");
    }
}

#[test]
fn the_seed_decides_every_byte_and_no_two_images_are_the_same() {
    let read = |seed| {
        let dir = tempfile::tempdir().expect("a directory");
        write_image_task(dir.path(), &[Attribute::Texture], SIZE, seed);
        let splits = [Split::Train, Split::Validation, Split::Test];
        let rows = splits.map(|split| {
            let dataset = dataset(dir.path(), split);
            let all: Vec<usize> = (0..dataset.rows().len()).collect();
            dataset.load_batch(&all, None).expect("images")
        });
        rows.concat()
    };
    let images = read(8);
    assert_eq!(images, read(8));
    assert_ne!(images, read(9));
    let size = 3 * SIZE.side * SIZE.side;
    let distinct: std::collections::BTreeSet<Vec<u8>> = images
        .chunks_exact(size)
        .map(|image| image.iter().map(|value| *value as u8).collect())
        .collect();
    assert_eq!(distinct.len(), 4 * (5 + 2 + 3));
}

/// The ground is grey up to its noise, so the strong colours are those of the shape.
#[test]
fn labels_say_what_the_images_show() {
    let dir = tempfile::tempdir().expect("a directory");
    write_image_task(
        dir.path(),
        &[Attribute::Color, Attribute::Quadrant],
        SIZE,
        5,
    );
    let dataset = dataset(dir.path(), Split::Train);
    for (index, class) in classes(&dataset).iter().enumerate() {
        let pixels = pixels(&dataset.load(index).expect("an image"));
        let (color, quadrant) = class.split_once('_').expect("two values");
        let mut mean = [0.0; 3];
        let (mut x, mut y, mut count) = (0.0, 0.0, 0.0);
        for (position, pixel) in pixels.iter().enumerate() {
            if saturation(pixel) > 60.0 {
                for (sum, value) in mean.iter_mut().zip(pixel) {
                    *sum += value;
                }
                x += (position % SIZE.side) as f32;
                y += (position / SIZE.side) as f32;
                count += 1.0;
            }
        }
        let [red, green, blue] = mean.map(|sum| sum / count);
        let found = match (red > 130.0, green > 130.0, blue > 130.0) {
            (false, false, true) => "blue",
            (false, true, false) => "green",
            (true, false, false) => "red",
            (true, true, false) => "yellow",
            other => panic!("{class}: {other:?}"),
        };
        assert_eq!(found, color, "{class}");
        let middle = (SIZE.side - 1) as f32 / 2.0;
        let place = usize::from(x / count > middle) + 2 * usize::from(y / count < middle);
        assert_eq!(QUADRANTS[place], quadrant, "{class}");
    }
}

#[test]
fn a_half_written_image_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    write_image_task(dir.path(), &[Attribute::Shape], SIZE, 1);
    let path = dir.path().join("train/disc/0002.png");
    let content = fs::read(&path).expect("a file");
    fs::write(&path, &content[..content.len() / 2]).expect("a file");
    let dataset = dataset(dir.path(), Split::Train);
    let all: Vec<usize> = (0..dataset.rows().len()).collect();
    let error = dataset
        .load_batch(&all, None)
        .expect_err("half an image")
        .to_string();
    assert!(error.contains("disc/0002.png: cannot decode"), "{error}");
    let targets = Targets::from_train(TargetKind::Classification, dataset.rows()).expect("classes");
    let encoded = targets.encode(dataset.rows()).expect("known labels");
    assert_eq!(
        encoded,
        EncodedTargets::Classes([[0; 5], [1; 5], [2; 5], [3; 5]].concat())
    );
}
