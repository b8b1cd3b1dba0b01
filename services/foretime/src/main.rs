//! `foretime`: see `foretime --help`.

use clap::Parser;

fn main() -> std::process::ExitCode {
    foretime::cli::run(foretime::cli::Command::parse())
}
