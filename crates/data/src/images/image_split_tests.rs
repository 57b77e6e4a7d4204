//! Splits in folders and tables, and the errors and notes about what does not belong there.

use super::*;
use crate::images::test_images::bmp;

/// A directory with these files, the folders between made as needed.
fn dir(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn config() -> DataConfig {
    DataConfig::new("unused")
}

fn read(dir: &tempfile::TempDir, config: &DataConfig) -> Result<ImageSplit, String> {
    read_image_split(dir.path(), Split::Train, config, LabelPolicy::Required)
        .map_err(|error| error.to_string())
}

/// File names and labels.
fn found(split: &ImageSplit) -> Vec<(String, Option<String>)> {
    let rows = split.rows.iter().map(|row| {
        let ImageSource::File(path) = &row.source else {
            panic!("expected a file");
        };
        let name = path.file_name().unwrap().to_str().unwrap();
        (name.to_owned(), row.label.as_ref().map(RawLabel::to_string))
    });
    rows.collect()
}

fn labelled(rows: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
    rows.iter()
        .map(|(name, label)| ((*name).to_owned(), Some((*label).to_owned())))
        .collect()
}

#[test]
fn folders_are_classes_in_the_order_of_their_names() {
    let image = bmp(3, 2, [1, 2, 3]);
    let dir = dir(&[
        ("train/dog/b.BMP", &image),
        ("train/dog/a.bmp", &image),
        ("train/cat/z.bmp", &image),
        ("train/.cache/x.bmp", &image),
        ("val/cat/v.bmp", &image),
    ]);
    let split = read(&dir, &config()).unwrap();
    let expected = labelled(&[("z.bmp", "cat"), ("a.bmp", "dog"), ("b.BMP", "dog")]);
    assert_eq!(found(&split), expected);
    assert!(split.notes.is_empty(), "{:?}", split.notes);
    let place = split.rows[0].place.to_string();
    assert!(place.ends_with("z.bmp"), "{place}");

    let split = read_image_split(
        dir.path(),
        Split::Validation,
        &config(),
        LabelPolicy::Required,
    );
    assert_eq!(found(&split.unwrap()), labelled(&[("v.bmp", "cat")]));
}

#[test]
fn what_is_left_out_of_folders_is_said() {
    let image = bmp(3, 2, [1, 2, 3]);
    let dir = dir(&[
        ("train/cat/a.bmp", &image),
        ("train/cat/notes.txt", b"x"),
        ("train/loose.bmp", &image),
        ("train/bird/readme", b"x"),
    ]);
    let split = read(&dir, &config()).unwrap();
    assert_eq!(found(&split), labelled(&[("a.bmp", "cat")]));
    let notes = split.notes.join("\n");
    assert!(notes.contains("bird` has no images"), "{notes}");
    assert!(
        notes.contains("3 left out")
            && notes.contains("`bird/readme`, `cat/notes.txt`, `loose.bmp`"),
        "{notes}"
    );

    let optional = read_image_split(dir.path(), Split::Train, &config(), LabelPolicy::Optional);
    let mut expected = labelled(&[("a.bmp", "cat")]);
    expected.push(("loose.bmp".to_owned(), None));
    assert_eq!(found(&optional.unwrap()), expected);
}

#[test]
fn tables_name_files_beside_them() {
    let image = bmp(3, 2, [1, 2, 3]);
    let jsonl = br#"{"photo": "images/a.bmp", "label": 3}
{"photo": "images/b.bmp", "label": 1}"#;
    let csv = b"label,photo\n3,images/a.bmp\n1,images/b.bmp\n";
    let config = DataConfig {
        image: "photo".to_owned(),
        ..config()
    };
    for (name, table) in [("train.jsonl", &jsonl[..]), ("train.csv", &csv[..])] {
        let dir = dir(&[
            (name, table),
            ("images/a.bmp", &image),
            ("images/b.bmp", &image),
        ]);
        let split = read(&dir, &config).unwrap();
        assert_eq!(found(&split), labelled(&[("a.bmp", "3"), ("b.bmp", "1")]));
        let image = split.rows[1].decode().unwrap();
        assert_eq!((image.width(), image.height()), (3, 2));
        assert_eq!(image.pixels(), [1, 2, 3].repeat(6));
    }
}

#[test]
fn a_table_goes_before_a_folder_and_says_so() {
    let image = bmp(3, 2, [1, 2, 3]);
    let dir = dir(&[
        ("train.csv", b"image,label\ntrain/a.bmp,x\n"),
        ("train/a.bmp", &image),
        ("train/b.bmp", &image),
    ]);
    let split = read(&dir, &config()).unwrap();
    assert_eq!(found(&split), labelled(&[("a.bmp", "x")]));
    assert!(split.notes[0].contains("as far as it is named there"));
}

#[test]
fn a_missing_column_is_that_of_the_image() {
    let dir = dir(&[("train.csv", b"images,label\na.bmp,x\n")]);
    let error = read(&dir, &config()).unwrap_err();
    let expected = "there is no column `image`; found `images`, `label`; did you mean `images`? \
                    Set `data.image`";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_path_to_nothing_names_row_and_path() {
    let dir = dir(&[("train.csv", b"image,label\nnowhere/a.bmp,x\n")]);
    let error = read(&dir, &config()).unwrap_err();
    assert!(
        error.contains("train.csv:2: cannot read the image"),
        "{error}"
    );
    assert!(error.contains("nowhere/a.bmp"), "{error}");
}

#[test]
fn a_split_that_is_nowhere_may_have_been_meant_as_a_folder() {
    let dir = dir(&[("training/cat/a.bmp", b"")]);
    let error = read(&dir, &config()).unwrap_err();
    assert!(
        error.contains("or a folder `train` with a folder a class"),
        "{error}"
    );
    assert!(error.contains("found `training/`"), "{error}");
}

#[test]
fn two_folders_for_one_split_are_ambiguous() {
    let dir = dir(&[("val/cat/a.bmp", b""), ("dev/cat/a.bmp", b"")]);
    let error = read_image_split(
        dir.path(),
        Split::Validation,
        &config(),
        LabelPolicy::Required,
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("more than one folder"), "{error}");
}

#[test]
fn a_folder_without_images_is_an_empty_split() {
    let dir = dir(&[("train/cat/a.txt", b"")]);
    let error = read(&dir, &config()).unwrap_err();
    assert!(error.contains("the train split has no rows"), "{error}");
}

#[test]
fn what_does_not_decode_is_an_error_when_loaded_or_left_out_when_asked() {
    let image = bmp(3, 2, [1, 2, 3]);
    let mut files: Vec<(String, &[u8])> = vec![("train/cat/good.bmp".to_owned(), &image)];
    for broken in 0..7 {
        files.push((format!("train/dog/{broken}.bmp"), &image[..60]));
    }
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, content)| (name.as_str(), *content))
        .collect();
    let dir = dir(&files);

    let split = read(&dir, &config()).unwrap();
    assert_eq!(split.rows.len(), 8);
    let error = split.rows[1].decode().unwrap_err().to_string();
    assert!(error.contains("0.bmp: cannot decode the image"), "{error}");
    assert!(error.contains("data.unreadable"), "{error}");

    let skip = DataConfig {
        unreadable: Unreadable::Skip,
        ..config()
    };
    let split = read(&dir, &skip).unwrap();
    assert_eq!(found(&split), labelled(&[("good.bmp", "cat")]));
    let note = &split.notes[0];
    assert!(note.contains("7 of 8 images cannot be read"), "{note}");
    assert!(
        note.contains("4.bmp and 2 more") && !note.contains("5.bmp"),
        "{note}"
    );

    fs::remove_file(dir.path().join("train/cat/good.bmp")).unwrap();
    let error = read(&dir, &skip).unwrap_err();
    assert!(error.contains("0.bmp: cannot decode"), "{error}");
}

#[test]
fn numbers_in_tables_of_images_are_the_classes_that_the_card_names() {
    let image = bmp(3, 2, [1, 2, 3]);
    let card = b"---\ndataset_info:\n  features:\n  - {name: label, dtype: {class_label: {names: [cat, dog]}}}\n---\n";
    let rows = b"{\"image\": \"a.bmp\", \"label\": 1}\n{\"image\": \"b.bmp\", \"label\": 0}\n";
    let dir = dir(&[
        ("README.md", card),
        ("train.jsonl", rows),
        ("a.bmp", &image),
        ("b.bmp", &image),
    ]);
    let split = read(&dir, &config()).unwrap();
    let expected = labelled(&[("a.bmp", "dog"), ("b.bmp", "cat")]);
    assert_eq!(found(&split), expected);
}

#[test]
fn columns_of_a_table_of_images_that_are_not_read_are_noted() {
    let image = bmp(3, 2, [1, 2, 3]);
    let rows = b"image,label,caption,id\na.bmp,cat,,1\na.bmp,dog,a dog,2\n";
    let dir = dir(&[("train.csv", rows), ("a.bmp", &image)]);
    let split = read(&dir, &config()).unwrap();
    let expected = "the train split has 2 rows, of which these columns are not read: `id` (in 2), \
                    `caption` (in 1); data.image and data.label name those to read";
    assert_eq!(split.notes, [expected]);
}
