use eigenmix_gguf::{GgufError, GgufFile, HeaderError};
use eigenmix_tensors::FileError;

use crate::bytes::{F32, Header, Q8_0, error_of, golden, text};

fn problem(header: &Header) -> HeaderError {
    match header.error() {
        GgufError::Header { problem, .. } => problem,
        other => panic!("another error: {other}"),
    }
}

fn expected_length(error: &GgufError) -> u64 {
    match error {
        GgufError::File(FileError::Truncated { expected, .. }) => *expected,
        other => panic!("another error: {other}"),
    }
}

#[test]
fn other_formats_are_refused_by_their_names() {
    let error = error_of(b"tjgg\x03\0\0\0 and more");
    assert!(
        matches!(&error, GgufError::BeforeGguf { found, .. } if found == "ggjt"),
        "{error}"
    );
    let error = error_of(b"PK\x03\x04 and more");
    assert!(
        matches!(&error, GgufError::NotGguf { found, .. } if found == "PK\\x03\\x04"),
        "{error}"
    );
    let error = error_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:00");
    assert!(
        matches!(error, GgufError::File(FileError::LfsPointer(_))),
        "{error}"
    );
    let error = error_of(b"GGUF\0\0\0\x03 and more");
    assert!(matches!(error, GgufError::BigEndian(_)), "{error}");
    let error = error_of(b"GGUF\x01\0\0\0 and more");
    assert!(
        error
            .to_string()
            .contains("version 1, of which 2 and 3 are read"),
        "{error}"
    );
    let error = error_of(b"GGUF\x04\0\0\0 and more");
    assert!(error.to_string().contains("a newer Eigenmix"), "{error}");
    let error = GgufFile::open(&golden("no such file.gguf")).err().unwrap();
    assert!(
        matches!(error, GgufError::File(FileError::NotFound(_))),
        "{error}"
    );
    let error = GgufFile::open(&golden("")).err().unwrap();
    assert!(
        matches!(error, GgufError::File(FileError::NotAFile(_))),
        "{error}"
    );
}

#[test]
fn a_truncated_file_says_how_long_it_should_be() {
    assert_eq!(expected_length(&error_of(b"")), 8);
    assert_eq!(expected_length(&error_of(b"GGUF\x03\0\0\0\0\0\0\0")), 16);
    let whole = Header::default()
        .with_tensor("a", &[2, 3], F32, 0)
        .with_tensor("b", &[2, 3], F32, 32)
        .with_data(32 + 24);
    let whole = whole.bytes();
    for length in 8..whole.len() {
        let expected = expected_length(&error_of(&whole[..length]));
        assert!(
            expected > length as u64 && expected <= whole.len() as u64,
            "{expected} of {length}"
        );
    }
    let error = error_of(&whole[..whole.len() - 1]);
    assert_eq!(expected_length(&error), whole.len() as u64);
}

#[test]
fn counts_and_lengths_beyond_the_file_are_truncations() {
    for (count, content) in [(1 << 62, 8u32), (1 << 62, 9), (u64::MAX, 6), (1 << 40, 7)] {
        let array = [&content.to_le_bytes()[..], &u64::to_le_bytes(count)].concat();
        let header = Header::default().with_value("a", 9, &array);
        assert!(expected_length(&header.error()) > 1 << 30);
    }
    let header = Header::default().with_value("a", 8, &u64::MAX.to_le_bytes());
    assert_eq!(expected_length(&header.error()), u64::MAX);
}

#[test]
fn malformed_metadata_is_named() {
    let number = 1u32.to_le_bytes();
    let header = Header::default()
        .with_value("a", 4, &number)
        .with_value("a", 4, &number);
    assert_eq!(problem(&header), HeaderError::KeyTwice("a".into()));
    let header = Header::default().with_value("", 4, &number);
    assert_eq!(problem(&header), HeaderError::EmptyKey(24));
    let header = Header::default().with_value("a", 13, &number);
    let (key, found) = ("a".to_owned(), 13);
    assert_eq!(
        problem(&header),
        HeaderError::UnknownValueType { key, found }
    );
    let header = Header::default().with_value("a", 7, &[2]);
    let (key, found) = ("a".to_owned(), 2);
    assert_eq!(problem(&header), HeaderError::Boolean { key, found });
    let header = Header::default().with_value("a", 8, &[&1u64.to_le_bytes()[..], b"\xff"].concat());
    assert_eq!(problem(&header), HeaderError::NotUtf8(24 + 9 + 4 + 8));
}

#[test]
fn arrays_in_arrays_are_read_up_to_a_depth() {
    let nested = |depth: usize| {
        let mut array = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()]
            .concat()
            .repeat(depth);
        array.extend([&8u32.to_le_bytes()[..], &1u64.to_le_bytes(), &text("x")].concat());
        Header::default().with_value("a", 9, &array)
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nested.gguf");
    std::fs::write(&path, nested(2).bytes()).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let found = format!("{:?}", file.value("a").unwrap());
    assert_eq!(found, r#"Array(Array([Array([String(["x"])])]))"#);
    assert!(matches!(problem(&nested(8)), HeaderError::TooDeep { .. }));
    assert!(matches!(
        problem(&nested(100_000)),
        HeaderError::TooDeep { .. }
    ));
}

#[test]
fn alignment_is_a_power_of_two() {
    for (bytes, fits) in [
        (0u32, false),
        (4, false),
        (24, false),
        (8, true),
        (64, true),
        (128, true),
    ] {
        let header = Header::default().with_value("general.alignment", 4, &bytes.to_le_bytes());
        let header = header.with_tensor("a", &[2], F32, 0).with_data(256);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("aligned.gguf");
        std::fs::write(&path, header.bytes()).unwrap();
        assert_eq!(GgufFile::open(&path).is_ok(), fits, "{bytes}");
    }
    let header = Header::default().with_value("general.alignment", 8, &text("32"));
    let expected = HeaderError::Alignment("the text `32`".into());
    assert_eq!(problem(&header), expected);
}

#[test]
fn malformed_tensor_tables_are_named() {
    let one = |dimensions: &[u64], format, offset| {
        let header = Header::default().with_tensor("a", dimensions, format, offset);
        problem(&header.with_data(4096))
    };
    let tensor = || "a".to_owned();
    assert_eq!(
        one(&[1; 5], F32, 0),
        HeaderError::Dimensions {
            tensor: tensor(),
            found: 5
        }
    );
    for dimensions in [
        vec![1 << 33, 1 << 33],
        vec![u64::MAX, 0, 2],
        vec![1 << 62],
        vec![0, 1 << 32, 1 << 32],
    ] {
        let found = dimensions.clone();
        assert_eq!(
            one(&dimensions, F32, 0),
            HeaderError::TooLarge {
                tensor: tensor(),
                found
            }
        );
    }
    assert_eq!(
        one(&[33, 2], Q8_0, 0),
        HeaderError::RowLength {
            tensor: tensor(),
            found: 33,
            encoding: "Q8_0",
            block: 32
        }
    );
    assert_eq!(
        one(&[2], F32, 8),
        HeaderError::Unaligned {
            tensor: tensor(),
            offset: 8,
            alignment: 32
        }
    );
    assert!(matches!(
        one(&[2], F32, u64::MAX - 31),
        HeaderError::TooLarge { .. }
    ));
}

#[test]
fn tensors_of_one_name_or_in_one_place_are_refused() {
    let header = Header::default()
        .with_tensor("a", &[2], F32, 0)
        .with_tensor("a", &[2], F32, 32);
    let error = problem(&header.with_data(64));
    assert_eq!(error, HeaderError::TensorTwice("a".into()));
    // In whatever order they are listed.
    let header = Header::default()
        .with_tensor("b", &[2], F32, 32)
        .with_tensor("a", &[9], F32, 0);
    let error = problem(&header.with_data(64));
    assert_eq!(error, HeaderError::Overlap("a".into(), "b".into()));
    // One that is not read is in no other's place either.
    let header = Header::default()
        .with_tensor("b", &[2], 16, 32)
        .with_tensor("a", &[9], F32, 0);
    let error = problem(&header.with_data(64));
    assert_eq!(error, HeaderError::Overlap("a".into(), "b".into()));
}

#[test]
fn a_format_that_is_not_read_is_refused_by_name_when_asked_for() {
    let header = Header::default()
        .with_tensor("a", &[256], 16, 0)
        .with_tensor("b", &[2], F32, 128);
    let header = header.with_tensor("c", &[2], 99, 160).with_data(256);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.gguf");
    std::fs::write(&path, header.bytes()).unwrap();
    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.tensor("b").unwrap().data.len(), 8);
    assert_eq!(file.shape("a").unwrap(), [256]);
    let error = file.tensor("a").unwrap_err().to_string();
    assert!(
        error.contains("is in IQ2_XXS, which is not read"),
        "{error}"
    );
    assert!(error.contains("(F32, F16, BF16, Q4_0"), "{error}");
    let error = file.tensor("c").unwrap_err().to_string();
    assert!(error.contains("is in the unknown format 99"), "{error}");
}
