//! `foretime`: see `foretime --help`.

use clap::Parser;

fn main() -> std::process::ExitCode {
    gpt_worker::prepare_process();
    foretime::cli::run(foretime::cli::Command::parse())
}
