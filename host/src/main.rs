//! The binary `bulkhead`: arguments in, exit code out.
//!
//! Secrets leave the environment in there, before the first thread starts.

use std::process::ExitCode;

use bulkhead_host::cli;
use mimalloc::MiMalloc;

/// Messages are made on one thread and given up on another, and that is what the system's allocator is slowest at.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
