//! What a `[data]` table may say, and what is written of it.

use super::*;
use crate::Split;

#[test]
fn a_path_alone_gives_the_defaults() {
    let config: DataConfig = toml::from_str(r#"path = "datasets/travel""#).unwrap();
    assert_eq!(config, DataConfig::new("datasets/travel"));
    assert_eq!(config.max_length, 128);
    assert_eq!(
        (config.text.as_str(), config.label.as_str()),
        ("text", "label")
    );
}

#[test]
fn every_key_survives_writing_and_reading() {
    let config = DataConfig {
        config: Some("plain".to_owned()),
        files: FileSelection::exactly(Split::Test, vec!["held/*.csv".to_owned()]),
        max_length: 64,
        text: "premise".to_owned(),
        text_pair: Some("hypothesis".to_owned()),
        image: "photo".to_owned(),
        unreadable: Unreadable::Skip,
        augment: Augment::CropFlip,
        crop_scale: CropScale::try_from([0.25, 0.75]).unwrap(),
        label: "gold".to_owned(),
        label_separator: ";".to_owned(),
        examples_per_class: Some(5),
        max_examples: Some(70),
        fold: Fold::all(5).nth(1),
        format: Some(LanguageFormat::Alpaca),
        columns: LanguageColumns {
            output: Some("response".to_owned()),
            ..LanguageColumns::default()
        },
        train_on: TrainOn::All,
        chat_template: Some("templates/plain.jinja".into()),
        prompt_template: Some("{{ instruction }}\n".to_owned()),
        caption: Some("words".to_owned()),
        resolution: Some(Resolution {
            width: 768,
            height: 512,
        }),
        crop: Crop::Random,
        flip: true,
        interpolation: Interpolation::Lanczos,
        buckets: true,
        bucket_step: 32,
        bucket_aspect: 2.5,
        small_images: SmallImages::Enlarge,
        instance_images: Some(FilePatterns::One("dog".to_owned())),
        instance_prompt: Some("a photo of sks dog".to_owned()),
        class_images: Some("images/dogs".into()),
        class_prompt: Some("a photo of a dog".to_owned()),
        class_count: NonZeroUsize::new(50),
        ..DataConfig::new("datasets/nli")
    };
    let written = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<DataConfig>(&written).unwrap(), config);
}

#[test]
fn all_examples_of_a_class_can_be_asked_for_by_word() {
    let amount = |value: &str| {
        let file = format!("path = \"d\"\nexamples_per_class = {value}");
        toml::from_str::<DataConfig>(&file).map(|config| config.examples_per_class)
    };
    assert_eq!(amount("\"all\"").unwrap(), None);
    assert_eq!(amount("5").unwrap(), Some(5));
    assert!(amount("\"some\"").is_err());
}

#[test]
fn keys_of_language_models_are_not_written_where_they_are_not_set() {
    let written = toml::to_string(&DataConfig::new("datasets/travel")).unwrap();
    let expected = "path = \"datasets/travel\"\nmax_length = 128\ntext = \"text\"\n\
                    label = \"label\"\n";
    assert_eq!(written, expected);
}

#[test]
fn forms_are_configured_by_words() {
    let file = "path = \"d\"\nformat = \"multiple-choice\"\ntrain_on = \"all\"";
    let config: DataConfig = toml::from_str(file).unwrap();
    assert_eq!(config.format, Some(LanguageFormat::MultipleChoice));
    assert_eq!(config.train_on, TrainOn::All);
    let error = toml::from_str::<DataConfig>("path = \"d\"\nformat = \"chat\"").unwrap_err();
    assert!(error.to_string().contains("prompt-completion"), "{error}");
}

#[test]
fn what_nobody_set_about_images_is_not_written() {
    let written = toml::to_string(&DataConfig::new("datasets/travel")).unwrap();
    for key in ["image", "unreadable", "augment", "crop_scale"] {
        assert!(!written.contains(key), "{written}");
    }
}

#[test]
fn images_are_configured_by_words() {
    let content = "path = \"d\"\nunreadable = \"skip\"\naugment = \"crop-flip\"\n\
                   crop_scale = [0.3, 0.9]";
    let config: DataConfig = toml::from_str(content).unwrap();
    assert_eq!(config.unreadable, Unreadable::Skip);
    assert_eq!(config.augmentation().kind, Augment::CropFlip);
    assert_eq!(<[f64; 2]>::from(config.crop_scale), [0.3, 0.9]);
    let error = toml::from_str::<DataConfig>("path = \"d\"\ncrop_scale = [0.9, 0.3]");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("expected 0 < least"), "{error}");
}

#[test]
fn a_misspelt_key_is_refused_by_name() {
    let error = toml::from_str::<DataConfig>("path = \"d\"\nmax_lenght = 64").unwrap_err();
    assert!(error.to_string().contains("max_lenght"), "{error}");
}

#[test]
fn the_settings_of_tasks_are_all_that_are_not_as_usual() {
    assert!(DataConfig::new("d").settings_of_tasks().is_empty());
    let file = "path = \"d\"\nresolution = 512\ncrop = \"random\"\nflip = true\n\
                buckets = true\nbucket_step = 32\nbucket_aspect = 2\nsmall_images = \"skip\"\n\
                caption = \"c\"\ninterpolation = \"bicubic\"\ninstance_images = [\"a.png\"]\n\
                instance_prompt = \"i\"\nclass_images = \"k\"\nclass_prompt = \"p\"\nclass_count = 3";
    let config: DataConfig = toml::from_str(file).unwrap();
    let keys = file
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(" = "));
    let mut keys: Vec<&str> = keys.map(|(key, _)| key.trim()).collect();
    let mut found = config.settings_of_tasks();
    found.sort_unstable();
    keys.sort_unstable();
    assert_eq!(found, keys);
}
