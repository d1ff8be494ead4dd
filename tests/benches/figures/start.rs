//! From the start of the process until it runs: 100 connectors of the 4 built-in plugins, with a warm compile cache.

use std::time::Instant;

use bulkhead_tests::Bulkhead;

const CONNECTORS: usize = 100;
const ROUNDS: usize = 9;

/// Milliseconds of each start after the first, which fills the cache.
pub(crate) fn rounds() -> Vec<f64> {
    let bulkhead = Bulkhead::new(&toml());
    let _ = bulkhead.start().terminate().ok();
    let start = |_| {
        let started = Instant::now();
        let running = bulkhead.start();
        let elapsed = started.elapsed();
        let _ = running.terminate().ok();
        elapsed.as_secs_f64() * 1e3
    };
    (0..ROUNDS).map(start).collect()
}

fn toml() -> String {
    (0..CONNECTORS).map(|number| {
        let part = match number % 4 {
            0 => "plugin = \"builtin:jq\"\nconfig = { program = \".\", publish = \"out\" }\nallow.publish = [\"out\"]\n",
            1 => "plugin = \"builtin:http-request\"\nconfig = { method = \"POST\", url = \"https://example.com/\" }\nallow.http = [{ url = \"https://example.com/*\", methods = [\"POST\"] }]\n",
            2 => "plugin = \"builtin:log\"\n",
            _ => {
                return format!(
                    "[connectors.c{number}]\nplugin = \"builtin:http-poll\"\nschedule = {{ every = \"30d\" }}\nconfig = {{ url = \"https://example.com/\", publish = \"out\" }}\nallow.publish = [\"out\"]\nallow.http = [{{ url = \"https://example.com/*\", methods = [\"GET\"] }}]\n"
                );
            }
        };
        format!("[connectors.c{number}]\nconsume = \"q{number}\"\n{part}")
    }).collect()
}
