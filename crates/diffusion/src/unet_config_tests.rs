use super::*;

/// Stable Diffusion 1.5's configuration has few keys.
fn sd() -> Value {
    json!({
        "act_fn": "silu", "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 768, "in_channels": 4, "layers_per_block": 2, "norm_num_groups": 32,
        "out_channels": 4, "sample_size": 64,
    })
}

/// SDXL's.
fn sdxl() -> Value {
    json!({
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280],
        "cross_attention_dim": 2048, "layers_per_block": 2, "sample_size": 128,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "projection_class_embeddings_input_dim": 2816, "transformer_layers_per_block": [1, 2, 10],
        "use_linear_projection": true,
    })
}

fn read(json: &Value) -> Result<UnetConfig, DiffusionError> {
    UnetConfig::from_json(json, Path::new("unet"))
}

fn refusal(changes: &[(&str, Value)]) -> String {
    let mut config = sd();
    for (key, value) in changes {
        config[*key] = value.clone();
    }
    read(&config).expect_err("a refusal").to_string()
}

#[test]
fn the_published_models_have_the_layers_that_are_known_of_them() {
    let config = read(&sd()).expect("Stable Diffusion 1.5");
    let description = config.describe();
    // 859,520,964 parameters, of which these are norms of 2 values a channel.
    let resnets = 22;
    let path = "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_k";
    let key = description.layer(path).expect("a layer");
    assert_eq!([key.d_out, key.d_in, usize::from(key.bias)], [1280, 768, 0]);
    let conv = description
        .layer("up_blocks.3.resnets.0.conv1")
        .expect("a layer");
    assert_eq!([conv.d_out, conv.d_in], [320, 9 * 960]);
    let blocks = (description.layers.iter())
        .filter(|layer| layer.path.ends_with(".conv1"))
        .count();
    assert_eq!(blocks, resnets);
    assert!(description.parameters < 859_520_964 && description.parameters > 859_000_000);

    let config = read(&sdxl()).expect("SDXL");
    let added = config.added.as_ref().expect("added conditions");
    assert_eq!((added.text_width, added.numbers), (1280, 6));
    let description = config.describe();
    let transformers = |start: &str| {
        let ending = ".attn1.to_q";
        let layers = description.layers.iter();
        layers
            .filter(|layer| layer.path.starts_with(start) && layer.path.ends_with(ending))
            .count()
    };
    // Two attentions on the way down, three on the way up.
    let counts = [
        "down_blocks.1",
        "down_blocks.2",
        "mid_block",
        "up_blocks.0",
        "up_blocks.1",
    ];
    assert_eq!(counts.map(transformers), [4, 20, 10, 30, 6]);
    // 2,567,463,684 parameters.
    assert!(description.parameters < 2_567_463_684 && description.parameters > 2_566_000_000);
}

#[test]
fn latents_need_not_be_square() {
    for (size, expected) in [
        (json!(64), Some([64, 64])),
        (json!([64, 96]), Some([64, 96])),
        (Value::Null, None),
    ] {
        let mut config = sdxl();
        config["sample_size"] = size;
        assert_eq!(read(&config).expect("a UNet").sample_size, expected);
    }
}

#[test]
fn layers_of_every_attention_may_be_listed() {
    let mut config = sdxl();
    config["transformer_layers_per_block"] = json!([0, [2, 1], 4]);
    config["reverse_transformer_layers_per_block"] = json!([[4, 4, 10], [2, 1, 1], 1]);
    let config = read(&config).expect("a distilled SDXL");
    let counts = |block: &BlockSizes| -> Vec<usize> {
        let attention = block.attention.iter().flatten();
        attention.map(|sizes| sizes.n_layers).collect()
    };
    assert_eq!(counts(&config.down[1]), [2, 1]);
    assert_eq!(counts(&config.up[0]), [4, 4, 10]);
    assert_eq!(counts(&config.up[1]), [2, 1, 1]);
}

#[test]
fn what_would_be_another_network_is_refused_with_its_option() {
    for (option, value) in [
        ("class_embed_type", json!("timestep")),
        ("time_cond_proj_dim", json!(256)),
        ("addition_embed_type", json!("image")),
        ("resnet_time_scale_shift", json!("scale_shift")),
        ("only_cross_attention", json!([true, false])),
        ("mid_block_type", json!("UNetMidBlock2DSimpleCrossAttn")),
        ("num_attention_heads", json!(8)),
        ("resnet_out_scale_factor", json!(2.0)),
        ("downsample_padding", json!(0)),
        ("_class_name", json!("ControlNetModel")),
        (
            "down_block_types",
            json!([
                "SimpleCrossAttnDownBlock2D",
                "DownBlock2D",
                "DownBlock2D",
                "DownBlock2D"
            ]),
        ),
    ] {
        let message = refusal(&[(option, value)]);
        assert!(message.contains(option), "{option}: {message}");
        assert!(message.contains("config.json"), "{message}");
    }
}

#[test]
fn sizes_that_do_not_fit_each_other_are_named() {
    for (option, value, word) in [
        ("layers_per_block", json!([2, 2]), "2 values for 4 blocks"),
        (
            "norm_num_groups",
            json!(7),
            "320 channels cannot be divided into 7",
        ),
        ("norm_num_groups", json!(0), "is 0"),
        ("block_out_channels", json!([]), "is empty"),
        ("attention_head_dim", json!(0), "number of heads"),
        (
            "transformer_layers_per_block",
            json!([[1], 1, 1, 1]),
            "each of 2 attentions",
        ),
        ("layers_per_block", json!(1_000_000), "1000000"),
        ("up_block_types", json!(["UpBlock2D"]), "1 types for 4"),
        ("block_out_channels", json!("wide"), "block_out_channels"),
        (
            "cross_attention_dim",
            json!([768, 768, 768, 1024]),
            "differs between blocks",
        ),
        ("sample_size", json!([64, 96, 2]), "sample_size"),
    ] {
        let message = refusal(&[(option, value)]);
        assert!(message.contains(word), "{option}: {message}");
    }
    let mut config = sdxl();
    config["addition_time_embed_dim"] = Value::Null;
    let message = read(&config).expect_err("a refusal").to_string();
    assert!(
        message.contains("`addition_time_embed_dim` is missing"),
        "{message}"
    );
}
