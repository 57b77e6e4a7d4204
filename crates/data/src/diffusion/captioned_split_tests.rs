//! Every kind of captioned images, and what is said of those that cannot be read.

use std::fs;
use std::sync::Arc;

use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::ByteArray;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use eigenmix_images::Draw;

use super::*;
use crate::images::{Unreadable, bmp};

/// A directory with these files, the folders between made as needed; each name that ends in `.bmp` is an
/// image as wide as its content says and 5 pixels high.
fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match content.parse() {
            Ok(width) if name.ends_with(".bmp") => {
                fs::write(path, bmp(width, 5, [1, 2, 3])).unwrap();
            }
            _ => fs::write(path, content).unwrap(),
        }
    }
    dir
}

fn config() -> DataConfig {
    DataConfig::new("unused")
}

fn read(dir: &tempfile::TempDir, config: &DataConfig) -> Result<CaptionedSplit, String> {
    read_captioned_split(dir.path(), Split::Train, config).map_err(|error| error.to_string())
}

/// Widths and captions.
fn found(split: &CaptionedSplit) -> Vec<(usize, Vec<&str>)> {
    let images = split.images.iter();
    images
        .map(|image| {
            let captions = image.captions.iter().map(String::as_str);
            assert_eq!(image.size[0], 5);
            (image.size[1], captions.collect())
        })
        .collect()
}

#[test]
fn tables_name_images_and_one_caption_or_several() {
    let lines = "{\"image\": \"x/a.bmp\", \"text\": \"a fox\", \"id\": 7}\n\
                 {\"image\": {\"path\": \"b.bmp\"}, \"text\": [\"two\", \"a pair\"]}\n";
    let dir = dir(&[("train.jsonl", lines), ("x/a.bmp", "3"), ("b.bmp", "4")]);
    let split = read(&dir, &config()).unwrap();
    let expected = [(3, vec!["a fox"]), (4, vec!["two", "a pair"])];
    assert_eq!(found(&split), expected);
    let expected = "the train split has 2 rows, of which these columns are not read: `id` (in 1); \
                    data.image and data.caption name those to read";
    assert_eq!(split.notes, [expected]);
    let place = split.images[1].image.place.to_string();
    assert!(place.ends_with("train.jsonl:2"), "{place}");
}

#[test]
fn a_folder_beside_a_table_counts_as_far_as_it_is_named_there() {
    let line = "{\"image\": \"train/a.bmp\", \"text\": \"a fox\"}";
    let dir = dir(&[
        ("train.jsonl", line),
        ("train/a.bmp", "3"),
        ("train/b.bmp", "4"),
    ]);
    let split = read(&dir, &config()).unwrap();
    assert_eq!(found(&split), [(3, vec!["a fox"])]);
    let note = &split.notes[0];
    assert!(note.contains("counts only as far as"), "{note}");
}

#[test]
fn columns_of_a_csv_are_named_or_found() {
    let files = [
        ("train.csv", "photo,words,text\na.bmp,\"one, two\",no\n"),
        ("a.bmp", "9"),
    ];
    let dir = dir(&files);
    let named = DataConfig {
        image: "photo".to_owned(),
        caption: Some("words".to_owned()),
        ..config()
    };
    let split = read(&dir, &named).unwrap();
    assert_eq!(found(&split), [(9, vec!["one, two"])]);
    let error = read(&dir, &config()).unwrap_err();
    assert!(
        error.contains("train.csv:1: there is no column `image`") && error.contains("`data.image`"),
        "{error}"
    );
    let wrong = DataConfig {
        caption: Some("word".to_owned()),
        ..named
    };
    let error = read(&dir, &wrong).unwrap_err();
    assert!(
        error.contains("did you mean `words`? Set `data.caption`"),
        "{error}"
    );
}

#[test]
fn two_columns_that_may_be_captions_are_a_question() {
    let line = "{\"image\": \"a.bmp\", \"text\": \"a\", \"caption\": \"b\"}";
    let dir = dir(&[("train.jsonl", line), ("a.bmp", "3")]);
    let error = read(&dir, &config()).unwrap_err();
    assert!(
        error.contains("train.jsonl:1: the columns `text`, `caption` may all be captions"),
        "{error}"
    );
}

#[test]
fn rows_without_a_caption_or_an_image_are_named() {
    for (cells, expected) in [
        (
            "\"image\": \"a.bmp\", \"text\": \" \"",
            "has an empty caption",
        ),
        (
            "\"image\": \"a.bmp\", \"text\": [\"a\", \"\"]",
            "has an empty caption",
        ),
        (
            "\"image\": \"a.bmp\", \"text\": null",
            "column `text` has no caption",
        ),
        (
            "\"image\": \"a.bmp\", \"text\": []",
            "column `text` has no caption",
        ),
        ("\"image\": \"a.bmp\"", "there is no column `text`"),
        (
            "\"image\": \"a.bmp\", \"text\": 3",
            "expected a text or a list of texts, found a number",
        ),
        ("\"image\": null, \"text\": \"a\"", "expected an image"),
        (
            "\"image\": \"http://x/a.png\", \"text\": \"a\"",
            "is on the Internet",
        ),
        (
            "\"image\": \"none.bmp\", \"text\": \"a\"",
            "cannot read the image",
        ),
        (
            "\"image\": \"broken.png\", \"text\": \"a\"",
            "cannot decode the image",
        ),
    ] {
        let first = "{\"image\": \"a.bmp\", \"text\": \"fine\"}";
        let lines = format!("{first}\n{{{cells}}}\n{first}\n");
        let files = [
            ("train.jsonl", lines.as_str()),
            ("a.bmp", "3"),
            ("broken.png", "<html>"),
        ];
        let error = read(&dir(&files), &config()).unwrap_err();
        let is_named = error.contains("train.jsonl:2: ");
        assert!(is_named && error.contains(expected), "{error}");
    }
    let dir = dir(&[
        ("train.csv", "image,text\na.bmp,fine\na.bmp,\n"),
        ("a.bmp", "3"),
    ]);
    let error = read(&dir, &config()).unwrap_err();
    assert!(
        error.contains("train.csv:3: column `text` has an empty caption"),
        "{error}"
    );
}

#[test]
fn images_that_cannot_be_read_are_left_out_if_asked_for() {
    let lines =
        "{\"image\": \"a.bmp\", \"text\": \"fine\"}\n{\"image\": \"b.png\", \"text\": \"not\"}";
    let dir = dir(&[("train.jsonl", lines), ("a.bmp", "3"), ("b.png", "<html>")]);
    let skipping = DataConfig {
        unreadable: Unreadable::Skip,
        ..config()
    };
    let split = read(&dir, &skipping).unwrap();
    assert_eq!(found(&split), [(3, vec!["fine"])]);
    let note = &split.notes[0];
    assert!(
        note.contains("1 of 2 images cannot be read") && note.contains("jsonl:2"),
        "{note}"
    );
}

#[test]
fn captions_lie_beside_images_in_folders_one_in_the_other() {
    let dir = dir(&[
        ("train/b.bmp", "4"),
        ("train/b.caption", "\u{feff}a cat\n\n  a black cat \r\n"),
        ("train/a.bmp", "3"),
        ("train/a.txt", "a fox"),
        ("train/deep/er/c.BMP", "<"),
        ("train/deep/er/c.txt", "deep"),
        ("train/.hidden/d.bmp", "7"),
        ("train/notes.md", "words"),
        ("train/lost.txt", "words"),
        ("validation/v.bmp", "8"),
        ("validation/v.txt", "held out"),
    ]);
    fs::write(dir.path().join("train/deep/er/c.BMP"), bmp(6, 5, [0; 3])).unwrap();
    let split = read(&dir, &config()).unwrap();
    let expected = [
        (3, vec!["a fox"]),
        (4, vec!["a cat", "a black cat"]),
        (6, vec!["deep"]),
    ];
    assert_eq!(found(&split), expected);
    assert_eq!(split.notes.len(), 1);
    let note = &split.notes[0];
    assert!(note.contains("2 files are left out"), "{note}");
    assert!(
        note.contains("lost.txt") && note.contains("notes.md"),
        "{note}"
    );
    let validation = read_captioned_split(dir.path(), Split::Validation, &config()).unwrap();
    assert_eq!(found(&validation), [(8, vec!["held out"])]);
    let test = read_captioned_split(dir.path(), Split::Test, &config()).unwrap_err();
    assert!(matches!(test, DataError::MissingSplit { .. }), "{test}");
}

#[test]
fn images_without_a_folder_of_their_split_are_trained_on() {
    let dir = dir(&[
        ("a.bmp", "3"),
        ("a.txt", "one"),
        ("more/b.bmp", "4"),
        ("more/b.txt", "two"),
        ("val/v.bmp", "8"),
        ("val/v.txt", "held out"),
        ("README.md", "words"),
    ]);
    let split = read(&dir, &config()).unwrap();
    assert_eq!(found(&split), [(3, vec!["one"]), (4, vec!["two"])]);
    let validation = read_captioned_split(dir.path(), Split::Validation, &config()).unwrap();
    assert_eq!(found(&validation), [(8, vec!["held out"])]);
}

#[test]
fn images_without_captions_beside_them_are_named_and_counted() {
    let dir = dir(&[
        ("train/a.bmp", "3"),
        ("train/a.txt", "one"),
        ("train/b.bmp", "3"),
        ("train/x/c.bmp", "3"),
    ]);
    let error = read(&dir, &config()).unwrap_err();
    assert!(
        error.contains("b.bmp` has no caption: expected `b.txt` or `b.caption` beside it")
            && error.ends_with("another image has none either"),
        "{error}"
    );
}

#[test]
fn empty_and_doubled_captions_beside_images_are_named() {
    let empty = dir(&[("train/a.bmp", "3"), ("train/a.txt", " \n\n")]);
    let error = read(&empty, &config()).unwrap_err();
    assert!(error.contains("a.txt` is empty"), "{error}");
    let files = [
        ("train/a.bmp", "3"),
        ("train/a.txt", "x"),
        ("train/a.caption", "x"),
    ];
    let error = read(&dir(&files), &config()).unwrap_err();
    assert!(
        error.contains("two files with captions, `a.txt`, `a.caption`"),
        "{error}"
    );
    let broken = dir(&[("train/a.png", "GIF87"), ("train/a.txt", "x")]);
    let error = read(&broken, &config()).unwrap_err();
    assert!(error.contains("a.png: cannot decode the image"), "{error}");
}

#[test]
fn the_metadata_of_an_image_folder_names_its_images() {
    let lines = "{\"file_name\": \"a.bmp\", \"text\": \"a fox\"}\n\
                 {\"file_name\": \"x/b.bmp\", \"text\": [\"b\", \"c\"]}\n";
    let csv = "file_name,caption\na.bmp,a fox\nx/b.bmp,b\n";
    for (name, content, second) in [
        ("train/metadata.jsonl", lines, vec!["b", "c"]),
        ("train/metadata.csv", csv, vec!["b"]),
        ("metadata.jsonl", lines, vec!["b", "c"]),
    ] {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let inside = |file: &str| {
            format!("{folder}/{file}")
                .trim_start_matches('/')
                .to_owned()
        };
        let names = ["a.bmp", "x/b.bmp", "x/other.bmp"].map(inside);
        let dir = dir(&[
            (name, content),
            (&names[0], "3"),
            (&names[1], "4"),
            (&names[2], "5"),
        ]);
        let split = read(&dir, &config()).unwrap();
        assert_eq!(found(&split), [(3, vec!["a fox"]), (4, second)], "{name}");
        let note = &split.notes[0];
        assert!(
            note.contains("1 files are left out") && note.contains("other.bmp"),
            "{note}"
        );
    }
}

#[test]
fn metadata_above_the_folders_of_the_splits_is_parted_by_them() {
    let lines = "{\"file_name\": \"train/a.bmp\", \"text\": \"one\"}\n\
                 {\"file_name\": \"test/b.bmp\", \"text\": \"two\"}\n";
    let dir = dir(&[
        ("metadata.jsonl", lines),
        ("train/a.bmp", "3"),
        ("test/b.bmp", "4"),
    ]);
    assert_eq!(found(&read(&dir, &config()).unwrap()), [(3, vec!["one"])]);
    let test = read_captioned_split(dir.path(), Split::Test, &config()).unwrap();
    assert_eq!(found(&test), [(4, vec!["two"])]);
}

#[test]
fn two_tables_of_metadata_are_ambiguous() {
    let dir = dir(&[("train/metadata.csv", "x"), ("train/metadata.jsonl", "x")]);
    let error = read(&dir, &config()).unwrap_err();
    assert!(
        error.contains("`metadata.jsonl`, `metadata.csv`; keep one"),
        "{error}"
    );
}

#[test]
fn an_empty_folder_and_an_empty_table_have_no_rows_and_no_folder_is_a_missing_split() {
    for files in [
        vec![("train/readme.md", "words")],
        vec![("train.jsonl", "\n\n")],
        vec![("train/metadata.csv", "file_name,text\n")],
    ] {
        let error = read(&dir(&files), &config()).unwrap_err();
        assert!(
            error.contains("the train split has no rows in `"),
            "{error}"
        );
    }
    let error = read(&dir(&[("notes.md", "words")]), &config()).unwrap_err();
    assert!(
        error.contains("no train split") && error.contains("or a folder `train` of images"),
        "{error}"
    );
}

/// As the Hub's converter writes images with captions and lists of captions.
const HUB: &str = "message schema {
    optional group image {
        optional binary bytes;
        optional binary path (STRING);
    }
    optional binary text (STRING);
    optional group captions (LIST) {
        repeated group list {
            optional binary element (STRING);
        }
    }
    optional int64 id;
}";

/// Two rows: of the first the bytes, a text and two captions, of the second the path, a text and one.
fn write_parquet(path: &Path) {
    let schema = Arc::new(parse_message_type(HUB).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let texts = |texts: &[&str]| -> Vec<ByteArray> {
        texts
            .iter()
            .map(|text| ByteArray::from(text.as_bytes().to_vec()))
            .collect()
    };
    type Column = (Vec<ByteArray>, Vec<i16>, Option<Vec<i16>>);
    let columns: [Column; 4] = [
        (vec![bmp(3, 5, [9; 3]).into()], vec![2, 1], None),
        (texts(&["b.bmp"]), vec![1, 2], None),
        (texts(&["one", "two"]), vec![1, 1], None),
        (texts(&["a", "b", "c"]), vec![3, 3, 3], Some(vec![0, 1, 0])),
    ];
    let mut columns = columns.into_iter();
    while let Some(mut column) = group.next_column().unwrap() {
        match column.untyped() {
            ColumnWriter::ByteArrayColumnWriter(column) => {
                let (values, definitions, repetitions) = columns.next().unwrap();
                column
                    .write_batch(&values, Some(&definitions), repetitions.as_deref())
                    .unwrap();
            }
            ColumnWriter::Int64ColumnWriter(column) => {
                column.write_batch(&[4, 5], Some(&[1, 1]), None).unwrap();
            }
            _ => unreachable!("the schema has no other type"),
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_files_have_images_inside_them_or_name_them() {
    let dir = dir(&[("b.bmp", "4")]);
    write_parquet(&dir.path().join("train.parquet"));
    let with = |caption: &str| {
        let config = DataConfig {
            caption: Some(caption.to_owned()),
            ..config()
        };
        read(&dir, &config)
    };
    let split = with("text").unwrap();
    assert_eq!(found(&split), [(3, vec!["one"]), (4, vec!["two"])]);
    assert!(
        split.notes[0].contains("`captions` (in 2), `id` (in 2)"),
        "{:?}",
        split.notes
    );
    let split = with("captions").unwrap();
    assert_eq!(found(&split), [(3, vec!["a", "b"]), (4, vec!["c"])]);
    assert!(matches!(
        split.images[0].image.source,
        ImageSource::Bytes(_)
    ));
    let error = with("id").unwrap_err();
    assert!(
        error.contains("train.parquet:1: column `id`: expected a text"),
        "{error}"
    );
    let error = read(&dir, &config()).unwrap_err();
    assert!(
        error.contains("the columns `text`, `captions` may all be"),
        "{error}"
    );
}

#[test]
fn each_epoch_draws_one_of_the_captions() {
    let lines = "{\"image\": \"a.bmp\", \"text\": [\"a\", \"b\", \"c\"]}";
    let dir = dir(&[("train.jsonl", lines), ("a.bmp", "3")]);
    let split = read(&dir, &config()).unwrap();
    let image = &split.images[0];
    let draw = |epoch| Draw {
        seed: 1,
        epoch,
        index: 0,
    };
    let drawn: Vec<&str> = (0..40).map(|epoch| image.caption(draw(epoch))).collect();
    assert_eq!(image.caption(draw(7)), drawn[7]);
    for caption in ["a", "b", "c"] {
        assert!(drawn.contains(&caption), "{drawn:?}");
    }
}
