//! Files that are not what their name or their header says.

use std::fmt::Write as _;

use eigenmix_tensors::FileError;

use crate::{open, open_bytes};

#[test]
fn a_file_shorter_than_its_header_says_is_truncated() {
    let header = r#"{"t":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}"#;
    let error = open(header, &[0; 11]).unwrap_err();
    let total = 8 + header.len() as u64 + 12;
    assert!(
        matches!(error, FileError::Truncated { expected, found, .. }
            if expected == total && found == total - 1),
        "{error}"
    );
    assert!(matches!(
        open_bytes(b""),
        Err(FileError::Truncated {
            expected: 8,
            found: 0,
            ..
        })
    ));
    assert!(matches!(
        open_bytes(&[9, 0, 0, 0, 0, 0, 0, 0, b'{']),
        Err(FileError::Truncated { expected: 17, .. })
    ));
}

#[test]
fn bytes_that_no_tensor_owns_are_an_error() {
    let header = r#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    assert!(matches!(
        open(header, &[0; 5]),
        Err(FileError::TrailingBytes { .. })
    ));
}

#[test]
fn a_git_lfs_pointer_is_recognised() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    let error = open_bytes(pointer).unwrap_err();
    assert!(matches!(error, FileError::LfsPointer(_)));
    assert!(error.to_string().contains("git lfs pull"));
}

#[test]
fn a_header_longer_than_the_format_allows_is_refused_unread() {
    let error = open_bytes(&[255; 64]).unwrap_err();
    assert!(
        matches!(
            error,
            FileError::HeaderTooLarge {
                found: u64::MAX,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn shapes_and_offsets_that_contradict_each_other_are_malformed() {
    for header in [
        r#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
        r#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        r#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
        r#"{"t":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#,
        r#"{"t":{"dtype":"Q4","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"t":7}"#,
        "[]",
        "not json",
    ] {
        let error = open(header, &[0; 4]).unwrap_err();
        assert!(
            matches!(error, FileError::MalformedHeader { .. }),
            "{header}: {error}"
        );
    }
}

#[test]
fn offsets_near_the_largest_integer_do_not_overflow() {
    let half = 1u64 << 60;
    let mut header = String::from("{");
    for index in 0..16u64 {
        let separator = if index == 0 { "" } else { "," };
        let end = if index == 15 {
            u64::MAX - 1
        } else {
            (index + 1) * half
        };
        let elements = end - index * half;
        let _ = write!(
            header,
            r#"{separator}"{index}":{{"dtype":"U8","shape":[{elements}],"data_offsets":[{},{end}]}}"#,
            index * half
        );
    }
    header.push('}');
    assert!(matches!(
        open(&header, &[0; 4]),
        Err(FileError::Truncated {
            expected: u64::MAX,
            ..
        })
    ));
}
