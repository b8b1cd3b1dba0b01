//! Byte-level BPE against GPT-2's own ids, and against files meant to break it.

use std::path::PathBuf;

use gpt::Bpe;
use gpt::generator::Generator;
use serde_json::{Value, json};

fn golden(part: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2-bpe").join(part)).unwrap()
}

fn gpt2() -> Bpe {
    Bpe::from_json(&golden("tokenizer.json")).unwrap()
}

#[test]
fn all_506_strings_get_the_ids_of_gpt2_and_come_back_byte_for_byte() {
    let (bpe, cases): (Bpe, Vec<Value>) = (gpt2(), serde_json::from_slice(&golden("strings.json")).unwrap());
    assert_eq!(cases.len(), 506);
    for case in &cases {
        let text = case["s"].as_str().unwrap();
        let ids = bpe.encode(text).unwrap();
        assert_eq!(json!(ids), case["ids"], "{text:?}");
        assert_eq!(bpe.decode(&ids).unwrap(), text);
    }
}

const CORPUS: [&str; 4] = [
    "card payment at the corner shop, card payment at the station",
    "transfer to savings; transfer from savings; naïve café",
    "card payment refused at the corner shop",
    "支付 给 商店 😀 支付",
];

#[test]
fn a_vocabulary_learned_here_is_the_same_each_time_survives_its_file_and_loses_no_byte() {
    let learned = || Bpe::train(CORPUS.iter(), 320, &["<|pad|>", "<|end|>"]).unwrap();
    let (bpe, text) = (learned(), learned().to_json().unwrap());
    assert_eq!(bpe.to_json().unwrap(), text, "learning is deterministic");
    assert_eq!(bpe.vocabulary_size(), 320);
    assert_eq!((bpe.id("<|pad|>"), bpe.id("<|end|>")), (Some(0), Some(1)));
    let again = Bpe::from_json(text.as_bytes()).unwrap();
    for text in CORPUS.into_iter().chain(["", "never \u{0} seen \u{7f} ½\r\n\t  x", "<|end|> inside"]) {
        let ids = bpe.encode(text).unwrap();
        assert_eq!(again.encode(text).unwrap(), ids);
        assert_eq!(bpe.decode(&ids).unwrap(), text);
    }
    assert_eq!(bpe.encode("a<|end|>").unwrap().last(), Some(&1));
    let cost = bpe.cost(CORPUS).unwrap();
    assert_eq!(cost.texts, 4);
    assert!(cost.bytes_per_token() > 2.0, "{cost:?}");
}

#[test]
fn a_vocabulary_without_room_for_the_bytes_is_refused_and_so_is_an_id_that_is_no_token() {
    let refusal = Bpe::train(CORPUS.iter(), 257, &["a", "b"]).unwrap_err();
    assert!(refusal.to_string().contains("at least 258"), "{refusal:?}");
    assert!(matches!(gpt2().decode(&[4_000_000_000]), Err(gpt::Error::Token { .. })));
}

fn changed(change: impl Fn(&mut Value)) -> Result<Bpe, gpt::Error> {
    let mut file: Value = serde_json::from_slice(&golden("tokenizer.json")).unwrap();
    change(&mut file);
    Bpe::from_json(&serde_json::to_vec(&file).unwrap())
}

#[test]
fn a_tokenizer_that_would_lose_or_change_bytes_is_refused_with_its_reason() {
    let reason = |change: &dyn Fn(&mut Value)| changed(change).unwrap_err().to_string();
    assert!(reason(&|f| f["pre_tokenizer"] = json!({ "type": "Whitespace" })).contains("ByteLevel"));
    assert!(reason(&|f| f["normalizer"] = json!({ "type": "Lowercase" })).contains("normalizer"));
    assert!(reason(&|f| drop(f["model"]["vocab"].as_object_mut().unwrap().remove("Ā"))).contains('Ā'));
    assert!(
        reason(&|f| f["model"] = json!({ "type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a" }))
            .contains("not BPE")
    );
    let truncating =
        json!({ "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 });
    let whole = changed(|f| f["truncation"] = truncating.clone()).unwrap();
    assert!(whole.encode("one two three four five").unwrap().len() > 2, "a file cannot cut texts short");
}

#[test]
fn truncated_and_mutated_tokenizer_files_are_errors_or_work_but_never_panic() {
    let (whole, mut generator) = (golden("tokenizer.json"), Generator::new(11, 0));
    for at in (0..whole.len()).step_by(whole.len() / 100) {
        assert!(Bpe::from_json(&whole[..at]).is_err(), "{at} bytes were taken for a whole file");
    }
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..1 + generator.below(4) {
            let at = generator.below(bytes.len());
            match generator.below(3) {
                0 => bytes[at] = generator.below(256) as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        if let Ok(bpe) = Bpe::from_json(&bytes) {
            let ids = bpe.encode("card payment 123 naïve\n").unwrap_or_default();
            drop(bpe.decode(&ids));
        }
    }
}
