//! `kubectl sluice` (effects): see `cli`. Found by kubectl when it is in the PATH.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice_operator::cli::main()
}
