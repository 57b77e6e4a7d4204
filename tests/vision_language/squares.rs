//! A little pretrained vision-language model (golden/vision_language_base) that names the colours of four
//! squares: adapters learn which to name without being told, and a new question is recycled from old ones.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::png::rgb_png;
use crate::support::{Random, Workplace, metrics};

const COLOURS: [(&str, [u8; 3]); 6] = [
    ("red", [220, 40, 40]),
    ("green", [40, 180, 60]),
    ("blue", [50, 70, 220]),
    ("yellow", [230, 210, 50]),
    ("white", [240, 240, 240]),
    ("black", [20, 20, 20]),
];
const PLACES: [&str; 4] = ["tl", "tr", "bl", "br"];

/// The questions of the adapters that are recycled, and the one that none of them was trained on.
const KNOWN: [[usize; 2]; 6] = [[0, 1], [1, 2], [2, 3], [3, 0], [2, 0], [1, 3]];
const UNSEEN: [usize; 2] = [0, 2];

fn base() -> String {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/vision_language_base");
    folder.to_str().expect("UTF-8").to_owned()
}

/// Pictures of four squares, each a row that asks for two of them.
///
/// - told: whether the question says which
fn rows(
    place: &Workplace,
    random: &mut Random,
    asked: [usize; 2],
    count: usize,
    told: bool,
) -> Vec<Value> {
    let draw = |random: &mut Random| (random.number().abs() * 1e4) as usize % COLOURS.len();
    (0..count)
        .map(|_| {
            let shown: Vec<usize> = (0..4).map(|_| draw(random)).collect();
            let name = shown.iter().map(usize::to_string).collect::<String>() + ".png";
            let path = place.path(&format!("images/{name}"));
            if !path.exists() {
                let pixel = |x: usize, y: usize| COLOURS[shown[y / 8 * 2 + x / 8]].1;
                let pixels: Vec<u8> = (0..256).flat_map(|at| pixel(at % 16, at / 16)).collect();
                std::fs::write(&path, rgb_png(16, 16, &pixels)).expect("an image");
            }
            let [first, second] = asked;
            let question = match told {
                true => format!("say {} {}", PLACES[first], PLACES[second]),
                false => "answer".to_owned(),
            };
            let answer = format!("{} {}", COLOURS[shown[first]].0, COLOURS[shown[second]].0);
            json!({"image": format!("../images/{name}"), "conversations": [
                {"from": "human", "value": format!("<image>\n{question}")}, {"from": "gpt", "value": answer}]})
        })
        .collect()
}

fn write(place: &Workplace, data: &str, split: &str, rows: &[Value]) {
    std::fs::create_dir_all(place.path(data)).expect("a directory");
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    std::fs::write(
        place.path(&format!("{data}/{split}.jsonl")),
        lines.join("\n"),
    )
    .expect("a file");
}

/// Trains an adapter, and tells the share of right answers of the test split.
fn train(place: &Workplace, name: &str, data: &str, adapter: &str, training: &str) -> f64 {
    let text = format!(
        "seed = 3\noutput = \"{name}\"\n[base]\nmodel = \"{}\"\n[task]\nkind = \"vision-language\"\n\
         metrics = [\"exact-match\"]\n[data]\npath = \"{data}\"\nmax_length = 48\n[adapter]\n{adapter}\n\
         [training]\nbatch_size = 16\nscheduler = \"linear\"\nwarmup_ratio = 0.06\nevaluate_every = 0\n\
         evaluate_test = true\n{training}",
        base()
    );
    std::fs::write(place.path(&format!("{name}.toml")), text).expect("a file");
    let outcome = place.run(&["train", &format!("{name}.toml")]);
    assert_eq!(outcome.status, 0, "{name}: {outcome:?}");
    let found = metrics(&place.path(name));
    let mut of_test = found.iter().rev();
    let right = of_test.find_map(|line| line["exact-match"].as_f64());
    let right = right.expect("a measurement");
    println!("{name}: {right}");
    right
}

const LORA: &str = "method = \"lora\"\nrank = 4\n\
                    target_modules = \".*language_model.*(q|k|v|o)_proj\"";

#[test]
fn the_base_model_answers_what_it_is_asked() {
    let place = Workplace::new();
    std::fs::create_dir(place.path("images")).expect("a directory");
    let mut random = Random(5);
    let asked = rows(&place, &mut random, UNSEEN, 100, true);
    write(&place, "told", "test", &asked);
    let found = place.run_json(&[
        "evaluate",
        "--base",
        &base(),
        "--data",
        "told",
        "--split",
        "test",
        "--metric",
        "exact-match",
        "--metric",
        "vqa-accuracy",
    ]);
    let right = found["metrics"]["exact-match"].as_f64().expect("a metric");
    assert!(right > 0.9, "{found}");
    assert_eq!(found["metrics"]["vqa-accuracy"].as_f64(), Some(right));
}

#[test]
fn an_unseen_question_about_pictures_is_recycled_from_adapters_of_others() {
    let place = Workplace::new();
    std::fs::create_dir(place.path("images")).expect("a directory");
    let mut random = Random(11);
    let mut adapters = Vec::new();
    for (index, asked) in KNOWN.into_iter().enumerate() {
        let (data, name) = (format!("known{index}"), format!("adapter{index}"));
        for (split, count) in [("train", 320), ("test", 60)] {
            write(
                &place,
                &data,
                split,
                &rows(&place, &mut random, asked, count, false),
            );
        }
        let right = train(
            &place,
            &name,
            &data,
            LORA,
            "epochs = 6\nlearning_rate = 4e-3",
        );
        assert!(right > 0.8, "{asked:?}: {right}");
        adapters.push(format!("{name}/adapter"));
    }
    // Few examples of the new question.
    for (split, count) in [("train", 48), ("test", 150)] {
        write(
            &place,
            "unseen",
            split,
            &rows(&place, &mut random, UNSEEN, count, false),
        );
    }
    let pool = format!("rank = 4\nadapters = {adapters:?}\ncomponents = 8");
    let few = |name: &str, adapter: &str| {
        let training = "epochs = 20\nlearning_rate = 1e-2";
        train(&place, name, "unseen", adapter, training)
    };
    let recycled = few("recycled", &format!("method = \"eigenmix\"\n{pool}"));
    let coefficients = few("coefficients", &format!("method = \"eigenlorax\"\n{pool}"));
    let random_basis = few(
        "random",
        &format!("method = \"eigenmix\"\nbasis = \"random\"\n{pool}"),
    );
    let composed = format!("method = \"compose\"\nadapters = {adapters:?}");
    let composed = few("composed", &composed);
    let mixed = "method = \"moslora\"\nrank = 4\ntarget_modules = \"all-linear\"\n\
                 modules_to_save = [\"multi_modal_projector\"]\n[vision]\nrank = 2";
    let mixed = few("mixed", &mixed.replace("[vision]", "[adapter.vision]"));
    println!(
        "eigenmix {recycled}, eigenlorax {coefficients}, random basis {random_basis}, compose {composed}, \
         moslora {mixed}"
    );
    // Guesses are right once in 36. With 8 directions of 64, those of the pool are worth more than others.
    assert!(
        recycled > 0.4 && recycled > random_basis + 0.05,
        "{recycled} {random_basis}"
    );
    assert!(coefficients > 0.4, "{coefficients}");
    assert!(mixed > 0.3, "{mixed}");
}
