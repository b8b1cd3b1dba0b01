//! A pretraining run that is killed again and again ends in the same bits as one that is left alone.

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use candle_core::Device;
use gpt::generator::Generator;
use gpt::{Gpt, GptConfig, PretrainRecipe, Pretraining};

const DIRECTORY: &str = "FORETIME_TEST_PRETRAINING";
const STEPS: usize = 160;
const KILLS: usize = 20;

fn sequences() -> Vec<Vec<u32>> {
    (0..40u32).map(|i| (0..3 + i % 6).map(|t| (i + t * (1 + i % 3)) % 11).collect()).collect()
}

fn begun() -> Pretraining {
    let config =
        GptConfig { vocabulary: 11, context: 8, width: 16, heads: 2, dropout: 0.1, ..GptConfig::default() };
    let recipe =
        PretrainRecipe { batch: 16, epochs: 1000.0, max_steps: Some(STEPS), ..PretrainRecipe::default() };
    Pretraining::new(Gpt::new(config, 7, &Device::Cpu).unwrap(), recipe).unwrap()
}

fn checkpoint(directory: &Path) -> PathBuf {
    directory.join("checkpoint.safetensors")
}

/// Goes on from the checkpoint, if there is one, to the end; saves and tells each step.
fn work(directory: &Path) {
    let path = checkpoint(directory);
    let mut run = if path.exists() { Pretraining::resume(&path, &Device::Cpu).unwrap() } else { begun() };
    loop {
        let finished = run.run(&sequences(), None, &mut |_| ControlFlow::Break(())).unwrap();
        run.save(&path).unwrap();
        println!("step {}", run.step());
        if finished {
            return;
        }
    }
}

/// The body of the process that the other test kills; by itself it has nothing to do.
#[test]
fn the_process_that_is_killed() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        work(Path::new(&directory));
    }
}

/// Starts the run in a process of its own and kills it after so many steps, if any; returns whether it was killed.
fn run_in_a_process(directory: &Path, kill_after: Option<usize>) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["the_process_that_is_killed", "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut steps = lines.map(Result::unwrap).filter(|line| line.contains("step "));
    if let Some(count) = kill_after {
        assert_eq!(steps.by_ref().take(count).count(), count, "the run ended before it could be killed");
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        return true;
    }
    steps.by_ref().for_each(drop);
    assert!(child.wait().unwrap().success());
    false
}

#[test]
fn a_run_killed_twenty_times_ends_in_the_bits_of_one_left_alone() {
    let (killed, alone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut generator = Generator::new(13, 0);
    for _ in 0..KILLS {
        assert!(run_in_a_process(killed.path(), Some(1 + generator.below(4))));
    }
    assert!(!run_in_a_process(killed.path(), None));
    work(alone.path());
    let bytes = |directory: &Path| std::fs::read(checkpoint(directory)).unwrap();
    assert_eq!(Pretraining::resume(&checkpoint(killed.path()), &Device::Cpu).unwrap().step(), STEPS);
    assert!(bytes(killed.path()) == bytes(alone.path()), "the checkpoints differ");
}

#[test]
fn a_run_that_diverges_names_its_step_and_leaves_the_last_good_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let path = checkpoint(directory.path());
    let config = GptConfig { vocabulary: 11, context: 8, width: 16, heads: 2, ..GptConfig::default() };
    let recipe = PretrainRecipe {
        batch: 16,
        max_steps: Some(50),
        epochs: 1000.0,
        learning_rate: 1e38,
        warmup: 0.0,
        ..PretrainRecipe::default()
    };
    let mut run = Pretraining::new(Gpt::new(config, 7, &Device::Cpu).unwrap(), recipe).unwrap();
    run.save(&path).unwrap();
    let failure = loop {
        match run.run(&sequences(), None, &mut |_| ControlFlow::Break(())) {
            Ok(_) if run.step() == 1 => run.save(&path).unwrap(),
            Ok(_) => {}
            Err(failure) => break failure,
        }
    };
    let failed_at = run.step() + 1;
    assert!(matches!(failure, gpt::Error::NonFiniteLoss { step } if step == failed_at), "{failure}");
    let good = Pretraining::resume(&path, &Device::Cpu).unwrap();
    assert!(good.step() < failed_at);
}
