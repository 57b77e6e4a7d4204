//! Sizes, refusals and augmentations; the values themselves are compared in `tests/golden.rs`.

use serde_json::json;

use super::*;

fn refusal(config: Value) -> String {
    ImagePreprocessor::from_config(&config, Path::new("preprocessor_config.json"))
        .unwrap_err()
        .to_string()
}

/// A model's directory with these files.
fn model(files: &[(&str, Value)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content.to_string()).unwrap();
    }
    dir
}

fn size_of(files: &[(&str, Value)]) -> Result<[usize; 2], String> {
    ImagePreprocessor::from_dir(model(files).path())
        .map(|preprocessor| preprocessor.size())
        .map_err(|error| error.to_string())
}

#[test]
fn the_size_is_that_of_the_last_step() {
    let vit = json!({"feature_extractor_type": "ViTFeatureExtractor", "size": 32});
    assert_eq!(size_of(&[("preprocessor_config.json", vit)]), Ok([32, 32]));
    let clip = json!({"image_processor_type": "CLIPImageProcessorFast", "size": 40,
                      "crop_size": {"height": 24, "width": 36}});
    assert_eq!(size_of(&[("preprocessor_config.json", clip)]), Ok([24, 36]));
}

#[test]
fn another_size_than_the_models_is_refused() {
    let vit = || json!({"image_processor_type": "ViTImageProcessor", "size": 32});
    for (model, fits) in [
        (json!({"image_size": 32}), true),
        (json!({"image_size": [32, 32]}), true),
        (json!({"vision_config": {"image_size": 32}}), true),
        (json!({"hidden_size": 8}), true),
        (json!({"image_size": 48}), false),
        (json!({"vision_config": {"image_size": 16}}), false),
        (json!({"image_size": [32, 48]}), false),
    ] {
        let found = size_of(&[("preprocessor_config.json", vit()), ("config.json", model)]);
        assert_eq!(found.is_ok(), fits, "{found:?}");
        if let Err(error) = found {
            assert!(
                error.contains("images of height 32 and width 32"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_missing_or_broken_file_is_named() {
    let error = size_of(&[("config.json", json!({"image_size": 32}))]).unwrap_err();
    assert!(error.contains("has no preprocessor_config.json"), "{error}");
    let error = size_of(&[(
        "preprocessor_config.json",
        json!({"size": 3, "resample": "x"}),
    )]);
    assert!(
        error
            .unwrap_err()
            .contains("preprocessor_config.json` is not")
    );
}

#[test]
fn a_processor_without_known_defaults_must_say_everything() {
    let full = || {
        json!({"image_processor_type": "BitImageProcessor", "do_resize": true, "resample": 3,
               "size": {"shortest_edge": 25}, "do_center_crop": true,
               "crop_size": {"height": 22, "width": 22}, "do_rescale": true,
               "rescale_factor": 0.003, "do_normalize": true,
               "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.3]})
    };
    assert_eq!(
        size_of(&[("preprocessor_config.json", full())]),
        Ok([22, 22])
    );
    for key in [
        "do_resize",
        "resample",
        "size",
        "crop_size",
        "do_normalize",
        "image_mean",
        "image_std",
    ] {
        let mut config = full();
        config.as_object_mut().unwrap().remove(key);
        let error = refusal(config);
        assert!(error.contains(&format!("there is no `{key}`")), "{error}");
        assert!(error.contains("BitImageProcessor"), "{error}");
    }
}

#[test]
fn unsupported_settings_are_refused() {
    let vit = |key: &str, value: Value| {
        let mut config = json!({"image_processor_type": "ViTImageProcessor"});
        config[key] = value;
        refusal(config)
    };
    for (key, value, expected) in [
        (
            "size",
            json!(0),
            "`size` is 0, expected a number from 1 to 8192",
        ),
        (
            "size",
            json!({"height": 9}),
            "expected `height` and `width`",
        ),
        (
            "size",
            json!({"shortest_edge": 9}),
            "`size` has `shortest_edge`, expected",
        ),
        ("size", json!([9, -3]), "`size` is -3, expected"),
        ("resample", json!(7), "`resample` is 7, expected 0 to 5"),
        (
            "image_mean",
            json!([0.5, 0.5]),
            "`image_mean` has 2 values, expected 3",
        ),
        (
            "image_std",
            json!([0.5, 0.0, 1.0]),
            "`image_std` contains 0",
        ),
        ("rescale_factor", json!(0), "`rescale_factor` is 0"),
        ("do_pad", json!(true), "`do_pad` is not supported"),
        ("crop_pct", json!(0.875), "`crop_pct` is not supported"),
        ("do_resize", json!(false), "images would differ in size"),
    ] {
        let error = vit(key, value);
        assert!(error.contains(expected), "{error}");
    }
    let clip = json!({"image_processor_type": "CLIPImageProcessor", "do_center_crop": false});
    assert!(refusal(clip).contains("shortest edge only"));
    let other = json!({"do_resize": true, "size": 30, "resample": 3});
    assert!(refusal(other).contains("`size` is one number"));
}

#[test]
fn an_image_like_a_thread_is_refused_and_not_blown_up() {
    let clip = json!({"image_processor_type": "CLIPImageProcessor"});
    let preprocessor = ImagePreprocessor::from_config(&clip, Path::new("unused")).unwrap();
    let thread = RgbImage::new(1, 9000, vec![0; 27_000]);
    let error = preprocessor.preprocess(&thread).unwrap_err().to_string();
    assert!(error.contains("224 × 2016000 pixels"), "{error}");
}

#[test]
fn augmentation_changes_pixels_and_keeps_the_size() {
    let config = json!({"image_processor_type": "ViTImageProcessor", "size": [6, 8],
                        "do_rescale": false, "do_normalize": false, "resample": 0});
    let preprocessor = ImagePreprocessor::from_config(&config, Path::new("unused")).unwrap();
    let image = RgbImage::new(8, 6, (0..144).collect());
    let whole = preprocessor.preprocess(&image).unwrap();
    let shown = |kind, index| {
        let augmentation = Augmentation {
            kind,
            ..Augmentation::default()
        };
        let (seed, epoch) = (3, 1);
        preprocessor
            .preprocess_augmented(&image, &augmentation, Draw { seed, epoch, index })
            .unwrap()
    };
    assert_eq!(shown(Augment::None, 4), whole);
    let mirrored: Vec<f32> = whole
        .chunks_exact(8)
        .flat_map(|line| line.iter().rev().copied())
        .collect();
    let flips: Vec<Vec<f32>> = (0..20).map(|index| shown(Augment::Flip, index)).collect();
    assert!(flips.contains(&whole) && flips.contains(&mirrored));
    assert!(
        flips
            .iter()
            .all(|values| *values == whole || *values == mirrored)
    );
    assert_eq!(shown(Augment::CropFlip, 4), shown(Augment::CropFlip, 4));
    assert_ne!(shown(Augment::CropFlip, 4), shown(Augment::CropFlip, 5));
    assert_eq!(
        shown(Augment::CropFlip, 4).len(),
        preprocessor.values_per_image()
    );
}
