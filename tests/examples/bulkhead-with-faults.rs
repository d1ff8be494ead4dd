//! The binary `bulkhead` in a build that can be given bugs: what looks for bugs must find these.

use std::process::ExitCode;

fn main() -> ExitCode {
    bulkhead_host::cli::main()
}
