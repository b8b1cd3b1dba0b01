//! What a caller of the crate can rely on.

use boosting::{Boosting, Error, Recipe};
use domain::tabular::{Column, Table};

/// A number in [0, 1) for each row and stream, the same on every run (SplitMix64).
fn noise(row: usize, stream: u64) -> f64 {
    let z = (row as u64 * 8 + stream + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 * (-53f64).exp2()
}

fn small() -> Recipe {
    Recipe { iterations: 30, min_leaf_weight: 2.0, ..Recipe::default() }
}

/// Events depend on `delay` and `carrier`; `empty` is all missing, `flat` constant.
fn flights(rows: std::ops::Range<usize>) -> (Table, Vec<f64>) {
    let delay: Vec<f64> =
        rows.clone().map(|row| if row % 17 == 0 { f64::NAN } else { noise(row, 1) }).collect();
    let carriers: Vec<&str> =
        rows.clone().map(|row| ["UA", "AA", "B6"][(noise(row, 2) * 3.0) as usize]).collect();
    let labels = rows
        .clone()
        .zip(&delay)
        .zip(&carriers)
        .map(|((row, delay), carrier)| {
            let risk = 0.1 + if *delay > 0.5 { 0.6 } else { 0.0 } + if *carrier == "B6" { 0.2 } else { 0.0 };
            f64::from(u8::from(noise(row, 3) < risk))
        })
        .collect();
    let n = rows.len();
    let columns = vec![
        ("delay".to_owned(), Column::Number(delay)),
        ("carrier".to_owned(), Column::from_text(carriers.iter().map(|carrier| Some(*carrier)))),
        ("empty".to_owned(), Column::Number(vec![f64::NAN; n])),
        ("flat".to_owned(), Column::Number(vec![3.25; n])),
    ];
    (Table::new(n, columns).unwrap(), labels)
}

fn trained() -> (Boosting, Table) {
    let (table, labels) = flights(0..2000);
    (Boosting::train(&table, &labels, None, None, &small()).unwrap(), table)
}

fn log_loss(log_odds: &[f64], labels: &[f64]) -> f64 {
    let loss = |(eta, y): (&f64, &f64)| (1.0 + eta.exp()).ln() - y * eta;
    log_odds.iter().zip(labels).map(loss).sum::<f64>() / labels.len() as f64
}

fn with(table: &Table, name: &str, column: &Column) -> Table {
    let columns = table
        .columns()
        .iter()
        .map(|(known, kept)| (known.clone(), if known == name { column.clone() } else { kept.clone() }));
    Table::new(table.rows(), columns.collect()).unwrap()
}

#[test]
fn a_model_predicts_later_rows_better_than_their_base_rate() {
    let (model, _) = trained();
    let (later, labels) = flights(2000..3000);
    let rate = labels.iter().sum::<f64>() / 1000.0;
    let base = vec![(rate / (1.0 - rate)).ln(); 1000];
    let (found, base) = (log_loss(&model.predict(&later).unwrap(), &labels), log_loss(&base, &labels));
    assert!(found < base - 0.1, "{found} against {base}");
}

#[test]
fn a_reloaded_model_predicts_the_same_bits() {
    let (model, table) = trained();
    let json = model.to_json().unwrap();
    let reloaded = Boosting::from_json(&json).unwrap();
    let bits = |model: &Boosting| -> Vec<u64> {
        model.predict(&table).unwrap().into_iter().map(f64::to_bits).collect()
    };
    assert_eq!(bits(&model), bits(&reloaded));
    assert_eq!(reloaded.to_json().unwrap(), json);
}

#[test]
fn the_same_rows_and_seed_give_the_same_file_and_another_seed_another() {
    let (table, labels) = flights(0..1500);
    let file = |seed: u64| {
        Boosting::train(&table, &labels, None, None, &Recipe { seed, ..small() }).unwrap().to_json().unwrap()
    };
    assert_eq!(file(1), file(1));
    assert_ne!(file(1), file(2));
}

#[test]
fn the_order_of_columns_and_a_column_too_many_change_nothing() {
    let (model, table) = trained();
    let mut columns = table.columns().to_vec();
    columns.reverse();
    columns.push(("new".into(), Column::Number(vec![1.0; table.rows()])));
    let shuffled = Table::new(table.rows(), columns).unwrap();
    assert_eq!(model.predict(&shuffled).unwrap(), model.predict(&table).unwrap());
    assert_eq!(model.columns(), ["carrier", "delay", "empty", "flat"]);
}

#[test]
fn one_row_alone_is_predicted_as_among_many() {
    let (model, _) = trained();
    let (many, _) = flights(0..5000);
    let all = model.predict(&many).unwrap();
    for row in [0, 17, 4999] {
        assert_eq!(model.predict(&many.take(&[row])).unwrap(), [all[row]]);
    }
    assert!(model.predict(&many.take(&[])).unwrap().is_empty());
}

#[test]
fn an_unseen_category_counts_as_missing() {
    let (model, table) = trained();
    let n = table.rows();
    let unseen = with(&table, "carrier", &Column::from_text(vec![Some("ZZ"); n]));
    let missing = with(&table, "carrier", &Column::from_text(vec![None; n]));
    assert_eq!(model.predict(&unseen).unwrap(), model.predict(&missing).unwrap());
}

#[test]
fn importance_ranks_what_matters_and_gives_an_empty_column_nothing() {
    let (model, _) = trained();
    let importance = model.importance();
    assert_eq!(importance[0].0, "delay");
    assert!((importance.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-12);
    for nothing in ["empty", "flat"] {
        assert!(importance.contains(&(nothing.to_owned(), 0.0)), "{importance:?}");
    }
}

#[test]
fn early_stopping_keeps_the_number_of_trees_that_did_best_on_later_rows() {
    let (table, labels) = flights(0..1500);
    let (later, truth) = flights(1500..2500);
    let recipe = Recipe { iterations: 300, early_stopping_rounds: Some(10), ..small() };
    let stopped = Boosting::train(&table, &labels, None, Some((&later, &truth, None)), &recipe).unwrap();
    assert!((1..290).contains(&stopped.trees()), "{} trees", stopped.trees());
    let full = Boosting::train(&table, &labels, None, None, &recipe).unwrap();
    assert_eq!(full.trees(), 300);
    let loss = |model: &Boosting| log_loss(&model.predict(&later).unwrap(), &truth);
    assert!(loss(&stopped) < loss(&full));
}

#[test]
fn a_row_of_weight_zero_is_as_good_as_absent_and_weights_move_the_level() {
    let (table, labels) = flights(0..1000);
    let level = |weight: f64| {
        let weights: Vec<f64> = labels.iter().map(|&y| if y == 1.0 { weight } else { 1.0 }).collect();
        let model = Boosting::train(&table, &labels, Some(&weights), None, &small()).unwrap();
        model.predict(&table).unwrap().iter().sum::<f64>()
    };
    assert!(level(5.0) > level(1.0));
    let zero: Vec<f64> = labels.iter().map(|&y| if y == 1.0 { 0.0 } else { 1.0 }).collect();
    let refusal = Boosting::train(&table, &labels, Some(&zero), None, &small()).unwrap_err();
    assert!(matches!(refusal, Error::OneClass { label: 0 }));
}

#[test]
fn two_rows_one_column_and_infinities_are_enough_to_train() {
    let column = Column::Number(vec![f64::NEG_INFINITY, f64::INFINITY]);
    let table = Table::new(2, vec![("x".into(), column)]).unwrap();
    for seed in 0..20 {
        let recipe = Recipe { min_leaf_weight: 0.0, colsample: 0.01, seed, ..Recipe::default() };
        let model = Boosting::train(&table, &[0.0, 1.0], None, None, &recipe).unwrap();
        assert!(model.predict(&table).unwrap().iter().all(|eta| eta.is_finite()));
    }
}

#[test]
fn labels_and_weights_that_cannot_be_learned_from_are_refused() {
    let (table, labels) = flights(0..100);
    let refusal = |labels: &[f64], weights: Option<&[f64]>| {
        Boosting::train(&table, labels, weights, None, &small()).unwrap_err().to_string()
    };
    let changed = |row: usize, value: f64| {
        let mut labels = labels.clone();
        labels[row] = value;
        labels
    };
    let weights = |row: usize, value: f64| {
        let mut weights = vec![1.0; 100];
        weights[row] = value;
        weights
    };
    assert_eq!(refusal(&labels[..99], None), "there are 99 labels for 100 rows");
    assert_eq!(refusal(&changed(3, 2.0), None), "the label of row 3 is 2, not 0 or 1");
    assert_eq!(refusal(&changed(4, f64::NAN), None), "the label of row 4 is NaN, not 0 or 1");
    assert_eq!(refusal(&[1.0; 100], None), "all labels of the rows with a weight are 1");
    assert_eq!(refusal(&labels, Some(&[1.0; 7])), "there are 7 weights for 100 rows");
    let bad = "the weight of row 5 is -1, not a finite number of at least 0";
    assert_eq!(refusal(&labels, Some(&weights(5, -1.0))), bad);
    let bad = "the weight of row 6 is NaN, not a finite number of at least 0";
    assert_eq!(refusal(&labels, Some(&weights(6, f64::NAN))), bad);
    assert_eq!(refusal(&labels, Some(&[0.0; 100])), "every row has weight 0");
}

#[test]
fn tables_that_do_not_fit_are_refused_by_name() {
    let (model, table) = trained();
    let refusal = |table: &Table| model.predict(table).unwrap_err().to_string();
    let without: Vec<(String, Column)> =
        table.columns().iter().filter(|(name, _)| name != "delay").cloned().collect();
    assert_eq!(refusal(&Table::new(table.rows(), without).unwrap()), "the column `delay` is missing");
    let numbers = with(&table, "carrier", &Column::Number(vec![1.0; table.rows()]));
    assert_eq!(refusal(&numbers), "the column `carrier` should hold categories");

    let empty = Table::new(0, vec![("x".into(), Column::Number(Vec::new()))]).unwrap();
    let train = |table: &Table, labels: &[f64]| {
        Boosting::train(table, labels, None, None, &small()).unwrap_err().to_string()
    };
    assert_eq!(train(&empty, &[]), "the training table has no rows");
    assert_eq!(train(&Table::new(2, Vec::new()).unwrap(), &[0.0, 1.0]), "the training table has no columns");
    let twice = vec![("x".to_owned(), Column::Number(vec![1.0, 2.0])); 2];
    assert_eq!(train(&Table::new(2, twice).unwrap(), &[0.0, 1.0]), "two columns are named `x`");
    let (rows, labels) = flights(0..100);
    let unfit = Boosting::train(&rows, &labels, None, Some((&empty, &[], None)), &small()).unwrap_err();
    assert_eq!(unfit.to_string(), "the validation table has no rows");
}

#[test]
fn the_file_of_another_version_is_told_from_a_broken_one() {
    let (model, _) = trained();
    let newer = model.to_json().unwrap().replacen("\"format\":1", "\"format\":2", 1);
    let refusal = Boosting::from_json(&newer).unwrap_err();
    assert_eq!(refusal.to_string(), "the model has format 2, but this version reads format 1");
    assert!(matches!(Boosting::from_json("{\"format\":1}").unwrap_err(), Error::Unreadable(_)));
    assert!(matches!(Boosting::from_json("trees").unwrap_err(), Error::Unreadable(_)));
}

#[test]
fn a_model_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&trained().0);
}
