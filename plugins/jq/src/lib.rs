//! `builtin:jq`: filters, maps, routes and splits messages with a jq program.
//!
//! `program` compiles and runs it, `output` turns what it yields into messages. The program is compiled once a sandbox:
//! the config does not change while one lives.

mod output;
mod program;
mod settings;

use bulkhead_sdk::prelude::*;

use program::Program;
pub use settings::Config;

/// The connector.
pub struct Jq;

struct Compiled {
    program: Program,
    publish: Option<String>,
}

thread_local! {
    static COMPILED: Result<Compiled, Failure> = compile();
}

impl Consumer for Jq {
    fn handle(message: Message) -> Result<(), Failure> {
        COMPILED.with(|compiled| {
            let Compiled { program, publish } = compiled.as_ref().map_err(Clone::clone)?;
            for routed in output::route_all(program.run(&message)?, publish.as_deref(), message)? {
                queue::publish(&routed.queue, routed.draft)?;
            }
            Ok(())
        })
    }
}

fn compile() -> Result<Compiled, Failure> {
    let Config { program, publish } = config::load()?;
    let program =
        Program::compile(&program).map_err(|problem| Failure::reject(format!("config: program: {problem}")))?;
    Ok(Compiled { program, publish })
}

export!(
    /// Filters, maps, routes and splits messages with a jq program.
    Jq: Consumer,
    name = "jq",
    config = Config,
    wants = [r#"publish = ["QUEUE"]"#],
);
