//! `bulkhead backup` and `bulkhead restore`: the data directory as one file, and back.
//!
//! A host that runs is asked for the file; without one the ledger is opened here. Invariant: what is said to be made was
//! opened and found sound.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};

use super::main::{Failed, Outcome, complain};
use super::output::{counted, print};
use crate::audit::{Audit, Event};
use crate::backup::{self, Restore};
use crate::clock::Clock;
use crate::config::Config;
use crate::egress::own_admin::OwnAdmin;
use crate::ledger::{Contents, Ledger, OpenError, Settings};
use crate::metrics::Metrics;
use crate::secret_store::token;

/// Makes a backup.
///
/// # Errors
/// The file exists, there is no ledger or it cannot be read, the disk has no room, or what was written is not sound.
pub async fn make(config: &Config, file: &Path, as_json: bool) -> Result<(), Failed> {
    backup::refuse_existing(file).map_err(Failed::Unusable)?;
    let settings = settings(config);
    if !settings.file().exists() {
        let what = format!("there is no ledger in {} yet: nothing to back up", settings.dir.display());
        return Err(Failed::Unusable(anyhow!(what)));
    }
    let data_dir = settings.dir.clone();
    let contents = match Ledger::open(settings.clone(), Clock::default(), Metrics::default()) {
        Ok(ledger) => {
            let made = backup::make(&ledger, file);
            if let Ok(contents) = &made {
                Audit::note_alone(&data_dir, Event::action("backup", &format!("{} bytes", contents.bytes)));
            }
            ledger.close();
            made?
        }
        Err(OpenError::Locked { .. }) => {
            let token = token::load(&data_dir).context("another process works on the data directory");
            let admin = OwnAdmin::new(config.host.admin, token.map_err(Failed::Unusable)?)?;
            backup::receive(&admin, &settings, file).await?
        }
        Err(error) => return Err(Failed::Unusable(error.into())),
    };
    tell(&format!("{} is made and sound", file.display()), file, &contents, as_json)?;
    if backup::has_secrets(&contents) {
        complain("help: the key of its sealed secrets is not in it: keep a copy of that apart\n");
    }
    Ok(())
}

/// Makes a data directory of a backup.
///
/// # Errors
/// The backup is not sound, the data directory is not empty, or it cannot be written.
pub fn restore(config: &Config, file: &Path, as_json: bool) -> Outcome {
    let dir = config.host.data_dir.display();
    let restore = Restore::prepare(file, settings(config)).map_err(Failed::Unusable)?;
    let contents = restore.carry_out().with_context(|| format!("{dir} is not whole: empty it and restore again"))?;
    tell(&format!("{dir} is restored"), file, &contents, as_json)?;
    if backup::has_secrets(&contents) {
        complain(
            "help: put the key of its sealed secrets in place before the start (`sealed.key`, or where yours lies)\n",
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn settings(config: &Config) -> Settings {
    Settings { min_free: config.host.min_free, ..Settings::new(config.host.data_dir.clone()) }
}

fn tell(what: &str, file: &Path, contents: &Contents, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let mut object = serde_json::to_value(contents)?;
        object["file"] = file.display().to_string().into();
        return print(&object.to_string());
    }
    let number = |count: u64, what: &str| counted(usize::try_from(count).unwrap_or(usize::MAX), what);
    let Contents { made_at, queues, messages, dead_letters, bytes, .. } = contents;
    print(&format!(
        "{what}: as of {made_at}, {}, {}, {}, {} KiB",
        number(*queues, "queue"),
        number(*messages, "message"),
        number(*dead_letters, "dead letter"),
        bytes.div_ceil(1024)
    ))
}
