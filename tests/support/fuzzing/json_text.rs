//! JSON of any form, as files of other programs and damaged ones may have it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

/// Sizes at which something may turn over, and such that may pass.
const SIZES: [u64; 14] = [
    0,
    1,
    2,
    3,
    4,
    7,
    49,
    50,
    1 << 16,
    1 << 31,
    1 << 32,
    1 << 62,
    1 << 63,
    u64::MAX,
];

pub fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<Index>().prop_map(|index| SIZES[index.index(SIZES.len())]),
        any::<u64>(),
    ]
}

/// JSON of any form, with what the files in question have in it, and some that is none.
///
/// - fields: names that their objects have
/// - words: texts that mean something there
pub fn json_text(
    fields: &'static [&'static str],
    words: impl Strategy<Value = String> + 'static,
) -> impl Strategy<Value = String> {
    let words = words.boxed();
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        size().prop_map(|size| size.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        "[a-z.]{0,8}".prop_map(|text| json!(text).to_string()),
        words.clone().prop_map(|text| json!(text).to_string()),
        any::<String>().prop_map(|text| json!(text).to_string()),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let object = |fields: Vec<(String, String)>| {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{}:{value}", json!(name)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        };
        let named = (0..fields.len()).prop_map(|name| fields[name].to_owned());
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            vec((named, inner.clone()), 0..4).prop_map(object),
            vec((words.clone(), inner), 0..4).prop_map(object),
            any::<u8>().prop_map(|depth| "[".repeat(usize::from(depth))),
        ]
    })
}
