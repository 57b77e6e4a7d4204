use eigenmix_gguf::{GgufArray, GgufError, GgufFile, GgufOutput, GgufValue, write_gguf};
use eigenmix_quant::Encoding;

use crate::bytes::golden;

fn every_type() -> Vec<(String, GgufValue)> {
    let nested = GgufArray::Array(vec![
        GgufArray::Bool(vec![true, false]),
        GgufArray::Array(vec![]),
        GgufArray::F64(vec![0.1]),
    ]);
    let values = [
        GgufValue::U8(200),
        GgufValue::I8(-100),
        GgufValue::U16(60_000),
        GgufValue::I16(-30_000),
        GgufValue::U32(4_000_000_000),
        GgufValue::I32(-2_000_000_000),
        GgufValue::F32(1e-5),
        GgufValue::Bool(true),
        GgufValue::String("Größe 🙂".into()),
        GgufValue::U64(u64::MAX),
        GgufValue::I64(i64::MIN),
        GgufValue::F64(0.1),
        GgufArray::U8(vec![1, 2]).into(),
        GgufArray::I8(vec![-1, 2]).into(),
        GgufArray::U16(vec![1, 60_000]).into(),
        GgufArray::I16(vec![-1, 2]).into(),
        GgufArray::U32(vec![3, 4]).into(),
        GgufArray::I32(vec![-3, 4]).into(),
        GgufArray::F32(vec![0.5, -1.5]).into(),
        GgufArray::String(vec![String::new(), "b".into()]).into(),
        GgufArray::U64(vec![u64::MAX]).into(),
        GgufArray::I64(vec![-5]).into(),
        nested.into(),
    ];
    let numbered = values.into_iter().enumerate();
    numbered
        .map(|(index, value)| (format!("value.{index}"), value))
        .collect()
}

#[test]
fn what_is_written_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("written.gguf");
    let metadata = every_type();
    let tensors = [
        GgufOutput::new("f16", [3, 5], Encoding::F16, (0..30).collect::<Vec<u8>>()),
        GgufOutput::new("q8", [2, 64], Encoding::Q8_0, vec![7; 2 * 2 * 34]),
        GgufOutput::new("empty", [0, 32], Encoding::Q4_0, vec![]),
        GgufOutput::new("scalar", [], Encoding::F32, vec![1, 2, 3, 4]),
        GgufOutput::new("deep", [2, 3, 1, 2], Encoding::F16, vec![9; 24]),
    ];
    write_gguf(&path, &metadata, &tensors).unwrap();

    let file = GgufFile::open(&path).unwrap();
    assert_eq!(file.metadata().count(), metadata.len());
    for (key, value) in &metadata {
        assert_eq!(file.value(key), Some(value), "{key}");
    }
    let read = |name: &str| file.tensor(name).unwrap();
    assert_eq!(read("f16").shape, [3, 5]);
    assert_eq!(read("f16").data, (0..30).collect::<Vec<u8>>());
    assert_eq!(
        (read("q8").encoding, read("q8").shape),
        (Encoding::Q8_0, vec![2, 64])
    );
    assert_eq!(read("q8").data, vec![7; 2 * 2 * 34]);
    assert_eq!(
        (read("empty").shape, read("empty").data.len()),
        (vec![0, 32], 0)
    );
    assert_eq!(read("scalar").data.as_ref(), [1, 2, 3, 4]);
    assert_eq!(
        (read("deep").shape, read("deep").data.len()),
        (vec![2, 3, 1, 2], 24)
    );
}

#[test]
fn the_copy_of_an_adapter_is_its_bytes() {
    let original = std::fs::read(golden("../gguf_adapters/llama-lora-F32.gguf")).unwrap();
    let file = GgufFile::open(&golden("../gguf_adapters/llama-lora-F32.gguf")).unwrap();
    // Both in the order of the original.
    let position = |text: &str| {
        let pattern = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
        original
            .windows(pattern.len())
            .position(|window| window == pattern)
            .unwrap()
    };
    let mut metadata: Vec<_> = file
        .metadata()
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect();
    metadata.sort_by_key(|(key, _)| position(key));
    let mut names: Vec<&str> = file.names().collect();
    names.sort_by_key(|name| position(name));
    let tensors: Vec<_> = names
        .into_iter()
        .map(|name| (name, file.tensor(name).unwrap()))
        .collect();
    let outputs: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| {
            GgufOutput::new(
                *name,
                tensor.shape.clone(),
                tensor.encoding,
                tensor.data.as_ref(),
            )
        })
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("copy.gguf");
    write_gguf(&path, &metadata, &outputs).unwrap();
    assert!(std::fs::read(&path).unwrap() == original);
}

#[test]
fn what_could_not_be_read_again_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("refused.gguf");
    let twice = vec![("a".to_owned(), GgufValue::from(1u32)); 2];
    let error = write_gguf(&path, &twice, &[]).unwrap_err();
    assert!(
        matches!(
            error,
            GgufError::OutputTwice {
                what: "metadata values",
                ..
            }
        ),
        "{error}"
    );
    let tensor = GgufOutput::new("a", [1], Encoding::F32, vec![0; 4]);
    let error = write_gguf(&path, &[], &[tensor.clone(), tensor]).unwrap_err();
    assert!(
        matches!(
            error,
            GgufError::OutputTwice {
                what: "tensors",
                ..
            }
        ),
        "{error}"
    );
    for (shape, bytes) in [
        (vec![1, 33], 40),
        (vec![2, 32], 35),
        (vec![1; 5], 34),
        (vec![32], 33),
    ] {
        let tensor = GgufOutput::new("a", shape, Encoding::Q8_0, vec![0; bytes]);
        let error = write_gguf(&path, &[], &[tensor]).unwrap_err();
        assert!(matches!(error, GgufError::OutputSize { .. }), "{error}");
    }
    assert!(!path.exists());
}
