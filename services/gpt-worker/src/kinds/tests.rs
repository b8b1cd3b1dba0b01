//! Every kind on the planted, synthetic set: it finds what it can see, survives its files to the bit, and repeats itself.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use domain::definitions::{ClassWeights, Model, ModelKind};
use domain::tabular::{Column, MISSING, Table};
use gpt::Device;
use serde_json::{Value, json};
use statistics::calibrators::sigmoid;
use statistics::ranking::auc;

use super::synthetic::{Planted, model, stream};
use super::{Asked, Learned, Lesson, learn, load};
use crate::training_data::Rows;

/// A small GPT that learns the order of six events.
pub(super) fn gpt() -> Value {
    json!({ "context": 16, "width": 32, "layers": 2, "heads": 2, "positions": "learned" })
}

pub(super) fn pretrain() -> Value {
    json!({ "batch": 64, "epochs": 2.0, "max_steps": 40 })
}

fn tower() -> Value {
    json!({ "number_width": 4, "frequencies": 4, "deep": [16], "width": 8, "dropout": 0.0 })
}

fn dcn(embedding: &str) -> Value {
    let mut tower = tower();
    tower["embedding"] = json!(embedding);
    json!({ "batch": 128, "rounds": 6, "learning_rate": 1e-2, "tower": tower })
}

/// Each kind, how it is set, and what it must reach; 0.5 is chance.
pub(super) fn table() -> Vec<(&'static str, Model, f64)> {
    let trees = json!({ "iterations": 60, "min_leaf_weight": 5.0 });
    let classifier = json!({ "rounds": 5, "batch": 64, "learning_rate": 4e-3, "patience": 4 });
    let mut by_lora = classifier.clone();
    by_lora["lora"] = json!({ "rank": 8, "alpha": 32.0, "targets": ["c_attn", "c_fc", "c_proj"] });
    let history = |mut rest: Value| {
        (rest["gpt"], rest["pretrain"]) = (gpt(), pretrain());
        rest
    };
    let fusion = json!({
        "batch": 64, "tabular_rounds": 4, "joint_rounds": 8, "learning_rate": 1e-2, "joint_learning_rate": 2e-3,
        "head_width": 16, "head_dropout": 0.0, "patience": 8, "tower": tower(),
    });
    let mut kinds = vec![
        ("logistic", model(ModelKind::Logistic, json!({})), 0.66),
        ("boosting", model(ModelKind::Boosting, trees.clone()), 0.64),
        ("dcn, periodic", model(ModelKind::Dcn, dcn("plr")), 0.66),
        ("dcn, piecewise linear", model(ModelKind::Dcn, dcn("ple")), 0.66),
        ("gpt, whole", model(ModelKind::GptClassifier, history(json!({ "classifier": classifier }))), 0.62),
        ("gpt, LoRA", model(ModelKind::GptClassifier, history(json!({ "classifier": by_lora }))), 0.58),
        (
            "late, boosting",
            model(ModelKind::LateFusion, history(json!({ "head": "boosting", "boosting": trees.clone() }))),
            0.82,
        ),
        (
            "late, dcn",
            model(ModelKind::LateFusion, history(json!({ "head": "dcn", "dcn": dcn("plr") }))),
            0.84,
        ),
        ("joint", model(ModelKind::JointFusion, history(json!({ "fusion": fusion }))), 0.86),
    ];
    if cfg!(feature = "lightgbm") {
        let mut theirs = trees;
        theirs["library"] = json!("lightgbm");
        kinds.push(("boosting, LightGBM", model(ModelKind::Boosting, theirs.clone()), 0.64));
        let late = history(json!({ "head": "boosting", "boosting": theirs }));
        kinds.push(("late, LightGBM", model(ModelKind::LateFusion, late), 0.82));
    }
    kinds
}

struct World {
    train: Rows,
    validation: Rows,
    test: Rows,
}

impl World {
    fn planted() -> Self {
        let planted = Planted::default();
        Self {
            train: planted.rows(0, 1_500, 1),
            validation: planted.rows(1_500, 500, 2),
            test: planted.rows(2_000, 800, 3),
        }
    }

    fn learn(&self, model: &Model) -> Result<(Box<dyn Learned>, f64), crate::Error> {
        let stream = stream();
        let lesson = Lesson::new(model, Some(&stream), &self.train, &self.validation)?;
        Ok((learn(&lesson, &mut |_| ControlFlow::Continue(()))?, lesson.prior_shift()))
    }
}

#[test]
fn what_has_learned_a_part_of_its_lesson_is_no_model() {
    let (world, stream) = (World::planted(), stream());
    for (name, model, _) in table() {
        let lesson = Lesson::new(&model, Some(&stream), &world.train, &world.validation).unwrap();
        let mut steps = 0;
        let learned = learn(&lesson, &mut |step| {
            steps += 1;
            // a round has ended by then: there are weights that were the best so far
            let ended = step.stage != "pretrain" && step.validation_loss.is_some();
            if ended { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let broken_off = !matches!(name, "logistic" | "boosting" | "boosting, LightGBM")
            && !name.starts_with("late, b")
            && !name.starts_with("late, L");
        assert_eq!(matches!(learned, Err(crate::Error::Cancelled)), broken_off, "{name} after {steps} steps");
        assert_eq!(learned.is_ok(), !broken_off, "{name}");
    }
}

fn asked(rows: &Rows) -> Asked<'_> {
    Asked { table: &rows.table, history: rows.history.as_ref(), cutoffs: &rows.cutoffs }
}

fn bits(odds: &[f64]) -> Vec<u64> {
    odds.iter().map(|odds| odds.to_bits()).collect()
}

/// Every file below a folder, with its bytes.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((
                path.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read(path).unwrap(),
            ));
        }
    }
    found.sort();
    found
}

fn saved(learned: &dyn Learned) -> (tempfile::TempDir, Vec<(String, Vec<u8>)>) {
    let folder = tempfile::tempdir().unwrap();
    learned.save(folder.path()).unwrap();
    let files = files(folder.path());
    (folder, files)
}

/// Rows with a category that training never saw, and rows of nothing but nulls.
fn strange(rows: &Rows) -> Table {
    let n = rows.labels.len();
    let levels = vec!["ZZ".to_owned()].into();
    let codes = (0..n).map(|row| if row % 2 == 0 { 0 } else { MISSING }).collect();
    let numbers = (0..n).map(|row| if row % 2 == 0 { 0.3 } else { f64::NAN }).collect();
    let columns = vec![
        ("x".to_owned(), Column::Number(numbers)),
        ("carrier".to_owned(), Column::Category { codes, levels }),
    ];
    Table::new(n, columns).unwrap()
}

#[test]
fn every_kind_finds_what_was_planted_and_is_the_same_from_its_files_and_from_its_seed() {
    let world = World::planted();
    for (name, model, least) in table() {
        let (learned, _) = world.learn(&model).unwrap();
        let odds = learned.log_odds(asked(&world.test)).unwrap();
        let reached =
            auc(&odds.iter().copied().map(sigmoid).collect::<Vec<_>>(), &world.test.labels).unwrap();
        assert!(reached.value > least && reached.interval.low > 0.5, "{name}: {reached:?}");

        let (folder, files) = saved(&*learned);
        let loaded = load(model.kind, folder.path(), &Device::Cpu).unwrap();
        assert_eq!(bits(&loaded.log_odds(asked(&world.test)).unwrap()), bits(&odds), "{name}: loaded");
        let (again, _) = world.learn(&model).unwrap();
        assert!(saved(&*again).1 == files, "{name}: the same seed gave other bytes");

        let table = strange(&world.test);
        let odd = learned.log_odds(Asked { table: &table, ..asked(&world.test) }).unwrap();
        assert!(odd.iter().all(|odds| odds.is_finite()), "{name}: an unseen category or a null row");
        assert_eq!(learned.reader().is_some(), model.kind.reads_histories(), "{name}");
    }
}

#[test]
fn a_late_fusion_is_told_how_a_history_ends_or_its_vector_alone_as_those_of_before_are() {
    let world = World::planted();
    let trees = json!({ "iterations": 60, "min_leaf_weight": 5.0 });
    let late = |history: &str| {
        let recipe = json!({ "history": history, "boosting": trees, "gpt": gpt(), "pretrain": pretrain() });
        world.learn(&model(ModelKind::LateFusion, recipe)).unwrap().0
    };
    let told = |learned: &dyn Learned| {
        let names = learned.importance().into_iter();
        let names = names.filter_map(|(name, _)| name.split('[').next().map(str::to_owned));
        names.collect::<BTreeSet<String>>().into_iter().collect::<Vec<_>>().join(" ")
    };
    let (ending, vector) = (late("ending"), late("vector"));
    assert_eq!(told(&*ending), "before carrier history history.age x");
    assert_eq!(told(&*vector), "carrier history x");

    let (folder, _) = saved(&*vector);
    std::fs::write(folder.path().join("head.json"), "\"boosting\"").unwrap();
    let before = load(ModelKind::LateFusion, folder.path(), &Device::Cpu).unwrap();
    let odds = |learned: &dyn Learned| bits(&learned.log_odds(asked(&world.test)).unwrap());
    assert_eq!(odds(&*before), odds(&*vector));
    assert!(odds(&*ending) != odds(&*vector));
    std::fs::write(folder.path().join("head.json"), "\"trees\"").unwrap();
    let said = load(ModelKind::LateFusion, folder.path(), &Device::Cpu).unwrap_err().to_string();
    assert!(said.contains("head.json"), "{said}");

    let (table, history) = (world.test.table.take(&[]), world.test.history.as_ref().map(|all| all.take(&[])));
    let none = Asked { table: &table, history: history.as_ref(), cutoffs: &[] };
    assert!(ending.log_odds(none).unwrap().is_empty() && vector.log_odds(none).unwrap().is_empty());
}

#[test]
fn class_weights_steer_learning_and_are_taken_out_of_what_is_said() {
    let world = World::planted();
    let plain = model(ModelKind::Logistic, json!({}));
    let weighted = Model { class_weights: Some(ClassWeights::Given([1.0, 4.0])), ..plain.clone() };
    let mean = |model: &Model| {
        let (learned, shift) = world.learn(model).unwrap();
        let odds = learned.log_odds(asked(&world.test)).unwrap();
        let mean =
            |shift: f64| odds.iter().map(|odds| sigmoid(odds - shift)).sum::<f64>() / odds.len() as f64;
        (mean(0.0), mean(shift))
    };
    let ((plain, same), (raised, corrected)) = (mean(&plain), mean(&weighted));
    assert_eq!(plain, same);
    assert!(raised > plain + 0.15 && (corrected - plain).abs() < 0.03, "{plain} {raised} {corrected}");
}

#[cfg(not(feature = "lightgbm"))]
#[test]
fn trees_of_lightgbm_are_refused_by_a_program_that_was_built_without_it() {
    let world = World::planted();
    let theirs = model(ModelKind::Boosting, json!({ "library": "lightgbm" }));
    let said = world.learn(&theirs).unwrap_err().to_string();
    assert!(said.contains("built without it") && said.contains("`lightgbm`"), "{said}");
    let (learned, _) = world.learn(&model(ModelKind::Boosting, json!({ "iterations": 2 }))).unwrap();
    let (folder, _) = saved(&*learned);
    let file = folder.path().join("boosting.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"library\":\"forust\"", "\"library\":\"lightgbm\"")).unwrap();
    let said = load(ModelKind::Boosting, folder.path(), &Device::Cpu).unwrap_err().to_string();
    assert!(said.contains("built without it"), "{said}");
}

#[test]
fn what_cannot_be_learned_or_set_is_refused_by_name() {
    let world = World::planted();
    let refusal = |model: &Model| world.learn(model).unwrap_err().to_string();
    for (kind, recipe, expected) in [
        (ModelKind::Logistic, json!({ "penalty": 1 }), "`recipe.penalty`"),
        (ModelKind::Logistic, json!({ "penalties": [] }), "`recipe.penalties`"),
        (ModelKind::Boosting, json!({ "max_leaves": "many" }), "`recipe.max_leaves`"),
        (ModelKind::Dcn, json!({ "tower": { "widht": 3 } }), "`recipe.tower.widht`"),
        (ModelKind::Dcn, json!({ "tower": { "embedding": "one-hot" } }), "`recipe.tower.embedding`"),
        (ModelKind::LateFusion, json!({ "head": "svm" }), "`recipe.head`"),
        (ModelKind::LateFusion, json!({ "history": "age" }), "`recipe.history`"),
        (ModelKind::GptClassifier, json!({ "gpt": { "width": -1 } }), "`recipe.gpt.width`"),
        (
            ModelKind::GptClassifier,
            json!({ "classifier": { "class_weights": [1.0, 2.0] } }),
            "`recipe.classifier.class_weights`",
        ),
    ] {
        let said = refusal(&model(kind, recipe));
        assert!(said.contains(expected) && said.contains("`planted`"), "{said}");
    }
    let mut certain = World::planted();
    certain.train.labels.fill(true);
    let said = certain.learn(&model(ModelKind::Logistic, json!({}))).unwrap_err().to_string();
    assert!(said.contains("all 1500 rows of the training window"), "{said}");
    let mut silent = World::planted();
    silent.train.history = None;
    let said = silent.learn(&model(ModelKind::JointFusion, json!({}))).unwrap_err().to_string();
    assert!(said.contains("reads histories"), "{said}");
    let (learned, _) = world.learn(&model(ModelKind::Logistic, json!({}))).unwrap();
    let narrow = Table::new(1, vec![("x".into(), Column::Number(vec![0.0]))]).unwrap();
    let said = learned.log_odds(Asked { table: &narrow, history: None, cutoffs: &[0] }).unwrap_err();
    assert_eq!(said.to_string(), "column `carrier` is missing");
}
