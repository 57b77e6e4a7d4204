//! Subjects and classes, wherever their images are, and what is said where they are missing.

use std::fs;

use super::*;
use crate::images::bmp;

/// A directory with these files; those that end in `.bmp` are images.
fn dir(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let content = match name.ends_with(".bmp") {
            true => bmp(7, 5, [1, 2, 3]),
            false => b"words".to_vec(),
        };
        fs::write(path, content).unwrap();
    }
    dir
}

fn config(dir: &tempfile::TempDir, table: &str) -> DataConfig {
    let config: DataConfig = toml::from_str(&format!("path = \"d\"\n{table}")).unwrap();
    DataConfig {
        path: dir.path().to_str().unwrap().to_owned(),
        class_images: config.class_images.map(|class| dir.path().join(class)),
        ..config
    }
}

fn read(dir: &tempfile::TempDir, table: &str) -> Result<DreamBooth, String> {
    let table = format!("instance_prompt = \"a photo of sks dog\"\n{table}");
    read_dream_booth(&config(dir, &table)).map_err(|error| error.to_string())
}

fn names(images: &[CaptionedImage]) -> Vec<String> {
    let name = |image: &CaptionedImage| {
        let name = image.image.place.file.file_name().unwrap();
        name.to_str().unwrap().to_owned()
    };
    images.iter().map(name).collect()
}

#[test]
fn a_folder_of_images_is_a_subject_with_one_prompt() {
    let dir = dir(&["b.bmp", "a.bmp", "a.txt", "class/c.bmp"]);
    let found = read(&dir, "").unwrap();
    assert_eq!(names(&found.instances), ["a.bmp", "b.bmp"]);
    assert_eq!(found.instances[0].captions, ["a photo of sks dog"]);
    assert_eq!(found.instances[0].size, [5, 7]);
    assert_eq!(found.class, None);
    assert!(found.notes[0].contains("2 left out") && found.notes[0].contains("`a.txt`, `class/`"));
}

#[test]
fn a_single_file_and_files_by_name_are_a_subject() {
    let dir = dir(&["b.bmp", "a.bmp", "dog/1.bmp", "dog/2.bmp"]);
    let found = read(&dir, "instance_images = [\"b.bmp\", \"dog\"]").unwrap();
    assert_eq!(names(&found.instances), ["b.bmp", "1.bmp", "2.bmp"]);
    let found = read(&dir, "instance_images = \"dog/2*\"").unwrap();
    assert_eq!(names(&found.instances), ["2.bmp"]);
    let error = read(&dir, "instance_images = \"cat\"").unwrap_err();
    assert!(
        error.contains("is called `cat`; there are `a.bmp`"),
        "{error}"
    );

    let mut one = config(&dir, "instance_prompt = \"p\"");
    one.path = dir.path().join("a.bmp").to_str().unwrap().to_owned();
    assert_eq!(names(&read_dream_booth(&one).unwrap().instances), ["a.bmp"]);
}

#[test]
fn the_images_of_a_table_are_a_subject_without_their_captions() {
    let dir = dir(&["x/a.bmp", "b.bmp"]);
    let lines = "{\"image\": \"x/a.bmp\"}\n{\"image\": \"b.bmp\"}\n";
    fs::write(dir.path().join("train.jsonl"), lines).unwrap();
    let found = read(&dir, "").unwrap();
    assert_eq!(found.instances.len(), 2);
    assert_eq!(found.instances[1].captions, ["a photo of sks dog"]);
}

#[test]
fn missing_images_of_the_class_are_counted() {
    let dir = dir(&["a.bmp", "class/1.bmp", "class/2.bmp", "class/3.bmp"]);
    let class = |table: &str| {
        let table = format!("class_prompt = \"a photo of a dog\"\n{table}");
        read(&dir, &table).map(|found| (found.class.unwrap(), found.notes))
    };
    let (found, _) = class("class_images = \"class\"\nclass_count = 5").unwrap();
    assert_eq!((found.images.len(), found.missing), (3, 2));
    assert_eq!(found.images[0].captions, ["a photo of a dog"]);
    let (found, notes) = class("class_images = \"class\"\nclass_count = 2").unwrap();
    assert_eq!(names(&found.images), ["1.bmp", "2.bmp"]);
    assert_eq!(found.missing, 0);
    assert!(
        notes
            .iter()
            .any(|note| note.contains("has 3 images, of which")),
        "{notes:?}"
    );
    let (found, _) = class("class_images = \"none\"").unwrap();
    assert_eq!((found.images.len(), found.missing), (0, 100));
    assert_eq!(found.dir, Some(dir.path().join("none")));
    let (found, _) = class("class_count = 7").unwrap();
    assert_eq!((found.dir, found.missing), (None, 7));
    let error = class("class_images = \"a.bmp\"").unwrap_err();
    assert!(error.contains("a.bmp`, which is no folder"), "{error}");
}

#[test]
fn prompts_are_there_and_keys_of_a_class_need_its_prompt() {
    let dir = dir(&["a.bmp"]);
    let refused = |table: &str| {
        let error = read_dream_booth(&config(&dir, table)).unwrap_err();
        error.to_string()
    };
    assert!(refused("").contains("`data.instance_prompt` is missing; it is what the subject"));
    assert!(refused("instance_prompt = \" \"").contains("`data.instance_prompt` is empty"));
    let with = |table: &str| refused(&format!("instance_prompt = \"p\"\n{table}"));
    assert!(with("class_prompt = \"\"").contains("`data.class_prompt` is empty"));
    for key in ["class_images = \"x\"", "class_count = 5"] {
        let error = with(key);
        assert!(
            error.contains("has no effect without `data.class_prompt`"),
            "{error}"
        );
    }
}

#[test]
fn empty_folders_and_broken_images_are_named() {
    let error = read(&dir(&["notes.md"]), "").unwrap_err();
    assert!(
        error.contains("has no images; expected files that end in .jpg"),
        "{error}"
    );
    let broken = dir(&["a.bmp", "b.png"]);
    let error = read(&broken, "").unwrap_err();
    assert!(error.contains("b.png: cannot decode the image"), "{error}");
    let found = read(&broken, "unreadable = \"skip\"").unwrap();
    assert_eq!(names(&found.instances), ["a.bmp"]);
    assert!(
        found
            .notes
            .iter()
            .any(|note| note.contains("1 of 2 images cannot be read"))
    );
}
