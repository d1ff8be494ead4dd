//! Random work on a real ledger beside a model of it in memory: after every step both must say the same.
//!
//! A step is drawn without knowing what it will meet (`step`), carried out on both (`run`, `pair`), and then everything that can
//! be read is compared (`compare`). Time goes by hand. What failed once is in `regressions.txt` and tried first in every
//! run; `PROPTEST_CASES=100000` looks further.

mod compare;
mod pair;
mod reference;
mod run;
mod step;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

use super::*;
use reference::Rules;
use step::Step;

/// As many as take some 7 seconds of a core in the profile of tests.
const CASES: u32 = 100;

#[test]
fn a_ledger_and_its_model_say_the_same_whatever_comes() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ledger/model/regressions.txt");
    let mut config =
        Config { failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))), ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    config.max_shrink_iters = 500;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let work = (step::rules(), step::steps());
    let mut runner = TestRunner::new(config);
    let outcome =
        runner.run(&work, |(rules, steps)| runtime.block_on(run::run(rules, &steps)).map_err(TestCaseError::fail));
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
