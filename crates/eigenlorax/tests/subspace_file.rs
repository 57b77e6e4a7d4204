//! A subspace on disk.

mod random_adapters;
use std::fs;
use std::path::Path;

use eigenmix_eigenlorax::{Components, EigenloraxError, ExtractOptions, Subspace, Weights};
use eigenmix_tensors::{FileError, TensorFile, TensorOutput, write_tensor_file};
use random_adapters::*;

fn subspace() -> Subspace {
    let options = ExtractOptions {
        center: true,
        augment: 2,
        seed: 5,
        ..ExtractOptions::new(Components::Variance(0.7))
    };
    extracted(&three_adapters(), &options).subspace
}

fn refusal(directory: &Path) -> EigenloraxError {
    Subspace::load(directory).expect_err("a damaged subspace")
}

#[test]
fn a_subspace_is_loaded_as_it_was_saved() {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("subspace");
    let saved = subspace();
    saved.save(&directory, false).expect("saved");
    assert_eq!(Subspace::load(&directory).expect("loaded"), saved);
}

#[test]
fn its_size_is_that_of_its_tensors() {
    let subspace = subspace();
    let numbers: usize = subspace
        .modules
        .values()
        .flat_map(|module| [&module.left, &module.right])
        .map(|basis| basis.vectors().values().len() + basis.variance().len())
        .sum();
    assert_eq!(subspace.bytes(), 4 * numbers);
}

#[test]
fn an_existing_directory_is_replaced_only_when_forced() {
    let directory = tempfile::tempdir().expect("a directory");
    let error = subspace()
        .save(directory.path(), false)
        .expect_err("it is there");
    assert!(matches!(
        error,
        EigenloraxError::File(FileError::AlreadyExists(_))
    ));
    subspace().save(directory.path(), true).expect("replaced");
    Subspace::load(directory.path()).expect("loaded");
}

#[test]
fn a_truncated_file_is_refused() {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("subspace");
    subspace().save(&directory, false).expect("saved");
    let path = directory.join("subspace.safetensors");
    let bytes = fs::read(&path).expect("the tensors");
    fs::write(&path, &bytes[..bytes.len() - 100]).expect("written");
    assert!(refusal(&directory).to_string().contains("truncated"));
}

#[test]
fn a_missing_file_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    assert!(
        refusal(directory.path())
            .to_string()
            .contains("subspace.json")
    );
}

/// Rewrites one tensor of a saved subspace.
fn change(directory: &Path, name: &str, change: impl Fn(f32) -> f32) {
    let path = directory.join("subspace.safetensors");
    let file = TensorFile::open(&path).expect("the tensors");
    let tensors: Vec<(&str, Vec<usize>, Vec<f32>)> = file
        .names()
        .map(|found| {
            let mut values = file.read_f32(found).expect("f32");
            if found == name {
                values.iter_mut().for_each(|value| *value = change(*value));
            }
            (found, file.shape(found).expect("a shape").to_vec(), values)
        })
        .collect();
    let outputs = tensors
        .iter()
        .map(|(name, shape, values)| TensorOutput::f32(*name, shape.as_slice(), values));
    write_tensor_file(&path, outputs.collect()).expect("written");
}

#[test]
fn a_basis_that_is_not_orthonormal_is_refused() {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("subspace");
    subspace().save(&directory, false).expect("saved");
    change(&directory, &format!("{QUERY}/right"), |value| 1.01 * value);
    let message = refusal(&directory).to_string();
    assert!(
        message.contains("orthonormal") && message.contains(QUERY),
        "{message}"
    );
}

#[test]
fn values_that_are_not_finite_are_refused() {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("subspace");
    subspace().save(&directory, false).expect("saved");
    change(&directory, &format!("{DOWN}/left"), |_| f32::NAN);
    assert!(refusal(&directory).to_string().contains(DOWN));
}

#[test]
fn a_description_that_does_not_fit_the_tensors_is_refused() {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("subspace");
    subspace().save(&directory, false).expect("saved");
    let path = directory.join("subspace.json");
    let json = fs::read_to_string(&path).expect("the description");

    fs::write(&path, json.replace("\"augmented\": 2", "\"augmented\": 3")).expect("written");
    assert!(refusal(&directory).to_string().contains("columns"));
    fs::write(&path, json.replace(QUERY, "layers.9.query")).expect("written");
    assert!(refusal(&directory).to_string().contains(QUERY));
    fs::write(&path, json.replace("\"version\"", "\"edition\"")).expect("written");
    assert!(matches!(
        refusal(&directory),
        EigenloraxError::Description { .. }
    ));
}

#[test]
fn options_are_read_with_their_defaults_and_without_unknown_keys() {
    let read = |json: &str| serde_json::from_str::<ExtractOptions>(json);
    let options = read(r#"{"components": {"count": 16}}"#).expect("options");
    // Before there was a choice, each adapter counted by its own norm.
    let earlier = ExtractOptions {
        weights: Some(Weights::Norms),
        ..ExtractOptions::new(Components::Count(16))
    };
    assert_eq!(options, earlier);
    let options = read(r#"{"components": "all", "factors": "raw", "seed": 3}"#).expect("options");
    assert_eq!((options.components, options.seed), (Components::All, 3));
    assert!(read(r#"{"components": {"variance": 0.9}, "centre": true}"#).is_err());
    assert!(read(r#"{"seed": 3}"#).is_err());
}
