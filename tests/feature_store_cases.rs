//! Which test covers which of the 85 point-in-time cases. The list is held against the files that it names.

use std::collections::BTreeSet;
use std::path::Path;

/// The first 50 lie as data in `pit_cases.json` and go through the kernel, and through plain files where these can say them.
const GOLDEN: &[&str] =
    &["the_kernel_answers_every_golden_case", "a_join_of_plain_files_answers_every_golden_case"];
const PIT: &str = "crates/frames/tests/pit_cases.rs";
const TYPED: &str = "crates/frames/tests/typed_cases.rs";
const EDGES: &str = "tests/feature_store_edges.rs";
const ERASE: &str = "tests/feature_store_erase.rs";
const EXACT: &str = "tests/feature_store_exact.rs";
const OFFLINE: &str = "tests/offline_store.rs";
const STORE: &str = "tests/feature_store.rs";
const TYPES: &str = "tests/feature_store_types.rs";
const VERSIONS: &str = "tests/feature_store_versions.rs";

/// Cases, the file of a test of them, and how its name begins.
const CASES: &[(&[u32], &str, &str)] = &[
    (&[38], PIT, "a_join_with_a_key_of_another_type_is_refused_by_name"),
    (&[42], PIT, "a_join_of_no_labels_still_has_its_columns"),
    (&[45], PIT, "only_the_label_with_the_least_integer_as_its_key_goes_without_an_answer"),
    (&[51], TYPED, "case_51_"),
    (&[52], TYPED, "case_52_"),
    (&[52, 61, 62, 67], TYPES, "what_no_column_can_hold_is_refused_by_name_and_nothing_is_stored"),
    (&[53, 54], TYPED, "case_53_and_54_"),
    (&[54, 62, 63, 66], EXACT, "case_54_62_63_66_"),
    (&[55], TYPED, "case_55_"),
    (&[56], TYPED, "case_56_"),
    (&[57], TYPED, "case_57_"),
    (&[58, 59, 60], TYPED, "case_58_to_60_"),
    (&[58, 63, 64, 66], EXACT, "case_58_63_64_66_"),
    (
        &[59, 60, 61, 65, 67, 68],
        TYPES,
        "integers_past_2_53_infinities_negative_zero_and_the_empty_text_survive_json",
    ),
    (&[61, 65], TYPED, "case_61_and_65_"),
    (&[62], TYPED, "case_62_"),
    (&[63], TYPED, "case_63_"),
    (&[64], TYPED, "case_64_"),
    (&[66], TYPED, "case_66_"),
    (&[67], TYPED, "case_67_"),
    (&[68], TYPED, "case_68_"),
    (&[69], TYPED, "case_69_"),
    (&[69], VERSIONS, "a_column_that_was_added_is_null_in_older_rows_and_the_version_stays"),
    (
        &[70],
        VERSIONS,
        "an_incompatible_change_goes_on_as_a_new_version_if_it_is_allowed_and_the_old_rows_stay",
    ),
    (&[71], VERSIONS, "a_renamed_feature_is_served_under_both_names"),
    (&[72], VERSIONS, "integers_may_become_numbers_and_numbers_may_not_become_integers"),
    (&[72], EXACT, "case_72_"),
    (&[73], TYPED, "case_73_"),
    (&[74], ERASE, "an_erased_entity_is_gone_from_both_stores_its_training_sets_are_flagged"),
    (&[74], ERASE, "older_rows_of_an_erased_entity_stay_away_and_newer_ones_are_a_new_beginning"),
    (&[75], ERASE, "case_75_"),
    (&[76], STORE, "a_repeated_batch_answers_what_the_first_one_answered_and_stores_nothing_twice"),
    (&[77], TYPED, "case_77_of_two_rows"),
    (&[77], TYPES, "the_newest_of_two_rows_of_a_key_in_one_push_is_served_and_both_are_kept"),
    (&[78], TYPES, "a_row_of_the_future_never_hides_the_present_one"),
    (&[79], TYPED, "case_79_"),
    (&[80], TYPED, "case_80_"),
    (&[80], TYPES, "a_reference_that_leads_nowhere_is_a_404_with_the_likely_intent_and_a_clash_is_a_422"),
    (&[81], TYPED, "case_81_"),
    (&[82], TYPED, "case_82_"),
    (&[83], TYPED, "case_83_"),
    (&[84], OFFLINE, "case_84_"),
    (&[85], OFFLINE, "case_85_"),
    (&[62], EDGES, "no_body_makes_a_fault_of_ours"),
];

#[test]
fn every_case_has_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let holds = |file: &str, name: &str| {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        text.contains(&format!("fn {name}"))
    };
    let golden = std::fs::read_to_string(root.join("crates/frames/tests/golden/pit_cases.json")).unwrap();
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&golden).unwrap().len(), 50);
    assert!(GOLDEN.iter().all(|name| holds(PIT, name)));
    for (_, file, name) in CASES {
        assert!(holds(file, name), "{file} has no test `{name}…`");
    }
    let covered: BTreeSet<u32> =
        (1..=50).chain(CASES.iter().flat_map(|(cases, ..)| cases.iter().copied())).collect();
    let missing: Vec<u32> = (1..=85).filter(|case| !covered.contains(case)).collect();
    assert!(missing.is_empty(), "no test covers {missing:?}");
}
