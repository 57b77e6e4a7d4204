use eigenmix_gguf::{GgufFile, TensorFormat};
use eigenmix_quant::Encoding;

use crate::bytes::golden;

#[test]
fn metadata_of_a_model_is_read_with_its_types() {
    let file = GgufFile::open(&golden("llama-Q4_1.gguf")).unwrap();
    assert_eq!(file.text("general.architecture").unwrap(), Some("llama"));
    assert_eq!(file.unsigned("llama.block_count").unwrap(), Some(2));
    let epsilon = "llama.attention.layer_norm_rms_epsilon";
    assert_eq!(file.number(epsilon).unwrap(), Some(1e-5));
    assert_eq!(file.number("llama.rope.freq_base").unwrap(), Some(10_000.0));
    let begins = file.boolean("tokenizer.ggml.add_bos_token").unwrap();
    assert_eq!(begins, Some(true));
    let tokens = file.texts("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!(tokens.len(), 345);
    assert_eq!(tokens[..4], ["<unk>", "<s>", "</s>", "<0x00>"]);
    assert_eq!(
        file.numbers("tokenizer.ggml.scores")
            .unwrap()
            .unwrap()
            .len(),
        345
    );
    let kinds = file.integers("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!(kinds[..4], [2, 3, 3, 6]);
    assert_eq!(file.text("llama.no_such_key").unwrap(), None);
    assert_eq!(file.metadata().count(), 27);
}

#[test]
fn a_value_of_another_type_names_key_and_both_types() {
    let file = GgufFile::open(&golden("llama-Q4_1.gguf")).unwrap();
    let error = file.unsigned("general.name").unwrap_err().to_string();
    let expected =
        "metadata `general.name` is the text `Tiny llama`, expected an integer of at least 0";
    assert!(error.ends_with(expected), "{error}");
    let error = file
        .numbers("tokenizer.ggml.tokens")
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("is an array of 345 texts, expected an array of numbers (f32)"),
        "{error}"
    );
    let missing = file.text("tokenizer.ggml.pre2").unwrap();
    let error = file.required("tokenizer.ggml.pre2", missing).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no metadata `tokenizer.ggml.pre2`"),
        "{error}"
    );
}

#[test]
fn tensors_have_row_major_shapes_and_their_bytes() {
    let file = GgufFile::open(&golden("llama-Q4_1.gguf")).unwrap();
    assert_eq!(file.names().count(), 21);
    let down = file.tensor("blk.1.ffn_down.weight").unwrap();
    assert_eq!(
        (down.shape.as_slice(), down.encoding),
        ([64, 96].as_slice(), Encoding::Q4_1)
    );
    assert_eq!(down.data.len(), 64 * 3 * 20);
    let norm = file.tensor("output_norm.weight").unwrap();
    drop(file);
    // The data keep the map alive. Norms of a model with random weights are near one.
    assert_eq!(
        (norm.shape.as_slice(), norm.encoding),
        ([64].as_slice(), Encoding::F32)
    );
    for bytes in norm.data.chunks_exact(4) {
        let value = f32::from_le_bytes(bytes.try_into().unwrap());
        assert!((0.2..3.0).contains(&value), "{value}");
    }
}

#[test]
fn an_adapter_is_read() {
    let file = GgufFile::open(&golden("../gguf_adapters/llama-lora-F32.gguf")).unwrap();
    assert_eq!(file.number("adapter.lora.alpha").unwrap(), Some(6.0));
    let name = "blk.0.ffn_down.weight.lora_a";
    assert_eq!(file.shape(name).unwrap(), [5, 96]);
    assert_eq!(
        file.format(name).unwrap(),
        TensorFormat::Read(Encoding::F32)
    );
    let error = file
        .tensor("blk.9.ffn_down.weight")
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("has no tensor `blk.9.ffn_down.weight`"),
        "{error}"
    );
}
