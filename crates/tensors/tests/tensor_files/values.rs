//! Values of every dtype, as the numbers that they are.

use eigenmix_tensors::FileError;
use half::{bf16, f16};

use crate::open;

#[test]
fn every_float_type_is_widened_to_the_same_values() {
    let expected = [1.5f32, -0.25, 3.0];
    let types: [(&str, Vec<u8>); 4] = [
        (
            "F32",
            expected.iter().flat_map(|x| x.to_le_bytes()).collect(),
        ),
        (
            "F16",
            expected
                .iter()
                .flat_map(|&x| f16::from_f32(x).to_le_bytes())
                .collect(),
        ),
        (
            "BF16",
            expected
                .iter()
                .flat_map(|&x| bf16::from_f32(x).to_le_bytes())
                .collect(),
        ),
        (
            "F64",
            expected
                .iter()
                .flat_map(|&x| f64::from(x).to_le_bytes())
                .collect(),
        ),
    ];
    for (dtype, data) in types {
        let header = format!(
            r#"{{"t":{{"dtype":"{dtype}","shape":[3],"data_offsets":[0,{}]}}}}"#,
            data.len()
        );
        assert_eq!(
            open(&header, &data).unwrap().read_f32("t").unwrap(),
            expected,
            "{dtype}"
        );
    }
}

#[test]
fn integers_and_booleans_are_widened() {
    let header = r#"{"i":{"dtype":"I32","shape":[2],"data_offsets":[0,8]},
                     "b":{"dtype":"BOOL","shape":[2],"data_offsets":[8,10]}}"#;
    let file = open(header, &[255, 255, 255, 255, 7, 0, 0, 0, 1, 0]).unwrap();
    assert_eq!(file.read_i64("i").unwrap(), [-1, 7]);
    assert_eq!(file.read_i64("b").unwrap(), [1, 0]);
    let error = file.read_f32("i").unwrap_err().to_string();
    assert!(error.contains("`i`") && error.contains("I32"), "{error}");
}

#[test]
fn a_number_that_is_too_large_for_f32_is_not_finite() {
    let header = r#"{"t":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}}"#;
    let data: Vec<u8> = [1.0f64, 1e300]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let error = open(header, &data)
        .unwrap()
        .read_finite_f32("t")
        .unwrap_err();
    assert!(
        matches!(error, FileError::NotFinite { position: 1, .. }),
        "{error}"
    );
}
