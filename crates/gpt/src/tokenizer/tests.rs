//! What a history becomes.

use domain::tabular::{Column, History, MISSING, Table};
use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3_600_000_000;

fn spec() -> EventSpec {
    serde_json::from_value(serde_json::json!({ "fields": [
        { "name": "dest", "kind": { "category": { "max_levels": 2 } } },
        { "name": "delay", "kind": { "number": { "bins": 2 } } },
        { "name": "hour", "kind": { "calendar": { "part": "hour" } } },
        { "name": "gap", "kind": { "gap": { "bins": 2 } } },
    ]}))
    .unwrap()
}

/// Row 0: three events; row 1: none; row 2: one event.
fn history() -> History {
    let dest = Column::from_text([Some("ATL"), Some("BOS"), Some("ATL"), Some("ORD")]);
    let delay = Column::Number(vec![-5.0, 30.0, f64::NAN, 10.0]);
    let fields = Table::new(4, vec![("dest".into(), dest), ("delay".into(), delay)]).unwrap();
    History { offsets: vec![0, 3, 3, 4], times: vec![0, HOUR, 5 * HOUR, 9 * HOUR], fields }
}

fn tokenizer() -> EventTokenizer {
    EventTokenizer::fit(&spec(), &history()).unwrap()
}

#[test]
fn an_event_becomes_its_declared_fields_in_order_between_bos_and_staleness() {
    // dest 3..6 (missing, ATL, BOS), delay 6..11 (missing, 2 bins, plus, minus), hour 11..35, gap 35..38, stale 38..78
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.vocabulary_size(), 78);
    let tokens = tokenizer.encode(&history(), 0, 6 * HOUR, 64).unwrap();
    let staleness = 38 + 1 + 11; // an hour: ⌊2·log₂ 61⌋ = 11
    assert_eq!(tokens, [BOS, 4, 10, 7, 11, 35, 5, 9, 8, 12, 36, 4, 6, 16, 37, staleness]);
}

#[test]
fn the_latest_whole_events_are_kept_and_the_future_is_not_seen() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.tokens_per_event(), 5);
    let short = tokenizer.encode(&history(), 0, 6 * HOUR, 8).unwrap();
    assert_eq!(short[..5], [BOS, 4, 6, 16, 37]);
    assert_eq!(short.len(), 6);
    let early = tokenizer.encode(&history(), 0, 2 * HOUR, 64).unwrap();
    assert_eq!(early[..11], [BOS, 4, 10, 7, 11, 35, 5, 9, 8, 12, 36]);
    assert_eq!(early.len(), 12);
}

#[test]
fn a_row_without_history_is_only_bos_and_the_no_event_token() {
    assert_eq!(tokenizer().encode(&history(), 1, HOUR, 64).unwrap(), [BOS, 38]);
}

#[test]
fn a_rare_or_new_level_is_unknown_and_a_missing_one_is_missing() {
    let mut later = history();
    let codes = vec![0, MISSING, 1, 0];
    let levels = vec!["LAX".to_owned(), "BOS".to_owned()].into();
    let dest = Column::Category { codes, levels };
    later.fields = Table::new(
        4,
        vec![("dest".into(), dest), ("delay".into(), later.fields.column("delay").unwrap().clone())],
    )
    .unwrap();
    let tokens = tokenizer().encode(&later, 0, 6 * HOUR, 64).unwrap();
    assert_eq!([tokens[1], tokens[6], tokens[11]], [UNKNOWN, 3, 5]);
    let report = tokenizer().report(&history()).unwrap();
    assert_eq!((report.events, report.vocabulary), (4, 78));
    let costs: Vec<_> =
        report.fields.iter().map(|f| (f.name.as_str(), f.vocabulary, f.tokens, f.used, f.unknown)).collect();
    assert_eq!(costs[0], ("dest", 3, 4, 3, 1));
    assert_eq!(
        (costs[1].2, costs[2].2),
        (7, 4),
        "a sign beside each known number; one calendar token an event"
    );
    assert!((report.unknown_rate - 1.0 / 19.0).abs() < 1e-12, "{report:?}"); // ORD, of 5 + 5 + 4 + 5 tokens
}

#[test]
fn missing_and_retyped_columns_are_named() {
    let mut other = history();
    other.fields = Table::new(4, vec![("dest".into(), Column::Number(vec![0.0; 4]))]).unwrap();
    let refusal = tokenizer().encode(&other, 0, HOUR, 64).unwrap_err();
    assert_eq!(refusal.to_string(), "column `dest` holds numbers where categories are expected");
    other.fields = Table::new(4, vec![]).unwrap();
    let refusal = EventTokenizer::fit(&spec(), &other).unwrap_err();
    assert_eq!(refusal.to_string(), "column `dest` is missing");
}

#[test]
fn a_tokenizer_survives_json_and_an_unknown_format_is_refused() {
    let text = tokenizer().to_json().unwrap();
    assert_eq!(EventTokenizer::from_json(&text).unwrap(), tokenizer());
    let newer = text.replace("\"format\":1", "\"format\":2");
    let refusal = EventTokenizer::from_json(&newer).unwrap_err();
    assert!(refusal.to_string().contains("has format 2"), "{refusal}");
    assert!(matches!(EventTokenizer::from_json("{}"), Err(Error::Format { found: 0, .. })));
}

#[test]
fn an_unknown_key_in_a_specification_is_refused() {
    let text = r#"{"fields":[{"name":"x","kind":{"number":{"bins":3,"log":true}}}]}"#;
    assert!(serde_json::from_str::<EventSpec>(text).is_err());
}

proptest! {
    #[test]
    fn any_row_at_any_cutoff_fits_the_context_and_the_vocabulary(
        row in 0usize..3, cutoff in -HOUR..20 * HOUR, context in 2usize..40,
    ) {
        let tokenizer = tokenizer();
        let tokens = tokenizer.encode(&history(), row, cutoff, context).unwrap();
        prop_assert!(tokens.len() >= 2 && tokens.len() <= context);
        prop_assert_eq!(tokens[0], BOS);
        prop_assert!(tokens[tokens.len() - 1] >= 38, "the last token is staleness");
        prop_assert!(tokens.iter().all(|&token| (token as usize) < tokenizer.vocabulary_size()));
    }
}
