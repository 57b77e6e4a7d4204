use std::path::Path;

use eigenmix_gguf::{GgufError, GgufFile, GgufOutput, GgufValue, write_gguf};
use eigenmix_quant::Encoding;

/// Part `part` of `count`, counted from 1, with a tensor `tensor-PART`.
fn write_part(path: &Path, part: u16, count: u16, tensors: i32) {
    let mut metadata = vec![
        ("split.no".to_owned(), GgufValue::U16(part - 1)),
        ("split.count".to_owned(), GgufValue::U16(count)),
        ("split.tensors.count".to_owned(), GgufValue::I32(tensors)),
    ];
    if part == 1 {
        metadata.push(("general.name".to_owned(), "in parts".into()));
    }
    let bytes = f32::from(part).to_le_bytes();
    let tensor = GgufOutput::new(format!("tensor-{part}"), [1], Encoding::F32, bytes.to_vec());
    write_gguf(path, &metadata, &[tensor]).expect("a part");
}

fn name(part: u16) -> String {
    format!("model-{part:05}-of-00003.gguf")
}

#[test]
fn a_split_file_is_read_as_one_whichever_part_is_named() {
    let directory = tempfile::tempdir().unwrap();
    for part in 1..=3 {
        write_part(&directory.path().join(name(part)), part, 3, 3);
    }
    for part in 1..=3 {
        let file = GgufFile::open(&directory.path().join(name(part))).unwrap();
        assert_eq!(file.text("general.name").unwrap(), Some("in parts"));
        assert_eq!(file.path(), directory.path().join(name(1)));
        for part in [1u16, 2, 3] {
            let tensor = file.tensor(&format!("tensor-{part}")).unwrap();
            assert_eq!(tensor.data, f32::from(part).to_le_bytes().as_slice());
        }
    }
}

#[test]
fn a_missing_part_is_named() {
    let directory = tempfile::tempdir().unwrap();
    for part in [1, 3] {
        write_part(&directory.path().join(name(part)), part, 3, 3);
    }
    let error = GgufFile::open(&directory.path().join(name(1)))
        .err()
        .unwrap();
    let missing = directory.path().join(name(2));
    assert!(
        matches!(&error, GgufError::MissingPart { path, part: 2, count: 3 } if *path == missing),
        "{error}"
    );
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        GgufFile::open(&directory.path().join(name(1)))
            .err()
            .unwrap()
    };
    for part in 1..=3 {
        write_part(&directory.path().join(name(part)), part, 3, 4);
    }
    let error = open().to_string();
    assert!(
        error.contains("the number of tensors of all parts is 3, expected 4"),
        "{error}"
    );
    write_part(&directory.path().join(name(2)), 3, 3, 4);
    let error = open().to_string();
    assert!(error.contains("`split.no` is 2, expected 1"), "{error}");
    write_part(&directory.path().join(name(2)), 2, 5, 4);
    let error = open().to_string();
    assert!(error.contains("`split.count` is 5, expected 3"), "{error}");

    let renamed = directory.path().join("renamed.gguf");
    write_part(&renamed, 2, 3, 3);
    let error = GgufFile::open(&renamed).err().unwrap().to_string();
    assert!(error.contains("`-00002-of-00003.gguf`"), "{error}");
}
