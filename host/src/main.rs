//! The binary `bulkhead`: arguments in, exit code out.
//!
//! Secrets leave the environment in there, before the first thread starts.

use std::process::ExitCode;

use bulkhead_host::cli;

fn main() -> ExitCode {
    cli::main()
}
