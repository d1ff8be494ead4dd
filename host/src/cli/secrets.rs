//! `bulkhead secrets`: values that are kept encrypted in the data directory.
//!
//! A host that runs is asked, because it may have a key that the command line has not (a systemd credential); otherwise
//! the store is changed directly. Invariant: a value comes from standard input only, and is never printed.

use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use serde_json::Value;
use zeroize::Zeroizing;

use super::Secrets;
use super::main::{Failed, complain};
use super::output::print;
use crate::admin::api::secrets::NewValue;
use crate::audit::{Audit, Event};
use crate::config::Config;
use crate::egress::own_admin::OwnAdmin;
use crate::ledger::Ledger;
use crate::mask::Secret;
use crate::secret_store::sealed::SealedStore;
use crate::secret_store::{Environment, Source, VALUE_BYTES_MAX, token};

/// Does what the arguments say.
///
/// # Errors
/// The input is no value, or the store does not open or cannot be written.
pub async fn run(config: &Config, environment: &Environment, command: Secrets, as_json: bool) -> Result<(), Failed> {
    let target = Target::find(config, environment)?;
    match command {
        Secrets::Set { name } => {
            let value = read_value(std::io::stdin().lock()).map_err(Failed::Unusable)?;
            target.set(&name, &value).await?;
            hint(config, &name);
            Ok(print_outcome(as_json, &format!("{name} is sealed"), &serde_json::json!({ "set": name }))?)
        }
        Secrets::List => {
            let names = target.names().await?;
            let text = if as_json { serde_json::json!(names).to_string() } else { names.join("\n") };
            if !text.is_empty() {
                print(&text)?;
            }
            Ok(())
        }
        Secrets::Rm { name } => {
            target.remove(&name).await?;
            Ok(print_outcome(as_json, &format!("{name} is removed"), &serde_json::json!({ "removed": name }))?)
        }
        Secrets::RotateKey { to } => {
            // The host reads the store and its key again by itself.
            let count = environment.sealed().rotate_key(to.as_deref()).map_err(Failed::Unusable)?;
            record(&config.host.data_dir, Event::action("secrets rotate-key", &format!("{count} secrets")));
            if let Some(path) = to {
                hint_key(&path);
            }
            let text = format!("{count} secrets are sealed with the new key");
            Ok(print_outcome(as_json, &text, &serde_json::json!({ "rotated": count }))?)
        }
    }
}

/// Where the values lie: with the host that runs, or in the store itself.
enum Target<'a> {
    Running(OwnAdmin),
    Stopped(&'a SealedStore, &'a Path),
}

impl<'a> Target<'a> {
    fn find(config: &'a Config, environment: &'a Environment) -> Result<Self, Failed> {
        let data_dir = &config.host.data_dir;
        if !Ledger::is_in_use(data_dir) {
            return Ok(Self::Stopped(environment.sealed(), data_dir));
        }
        // Another verb may hold the directory for a moment; only a host that runs has a token to be asked with.
        match token::load(data_dir) {
            Ok(token) => Ok(Self::Running(OwnAdmin::new(config.host.admin, token)?)),
            Err(_) => Ok(Self::Stopped(environment.sealed(), data_dir)),
        }
    }

    async fn set(&self, name: &str, value: &Secret) -> Result<(), Failed> {
        match self {
            Self::Running(admin) => {
                let body = NewValue::of(value).to_json()?;
                Ok(admin.put(&format!("secrets/{name}"), body.to_vec()).await?)
            }
            Self::Stopped(store, data_dir) => {
                store.set(name, value).map_err(Failed::Unusable)?;
                record(data_dir, Event::action("secrets set", name));
                Ok(())
            }
        }
    }

    async fn names(&self) -> Result<Vec<String>, Failed> {
        match self {
            Self::Running(admin) => Ok(admin.get("secrets").await?),
            Self::Stopped(store, _) => store.names().map_err(Failed::Unusable),
        }
    }

    async fn remove(&self, name: &str) -> Result<(), Failed> {
        match self {
            Self::Running(admin) => Ok(admin.delete::<Value>(&format!("secrets/{name}")).await.map(drop)?),
            Self::Stopped(store, data_dir) => {
                if !store.remove(name).map_err(Failed::Unusable)? {
                    let unknown = anyhow!("no secret `{name}` is sealed: `bulkhead secrets list` shows those that are");
                    return Err(Failed::Unusable(unknown));
                }
                record(data_dir, Event::action("secrets rm", name));
                Ok(())
            }
        }
    }
}

/// A host that runs records itself what it is asked to do; it is not asked for a rotation of the key.
fn record(data_dir: &Path, event: Event) {
    Audit::note_beside(data_dir, &[event]);
}

/// All of standard input; one line break at its end does not count, as in a file.
fn read_value(input: impl Read) -> anyhow::Result<Secret> {
    if std::io::stdin().is_terminal() {
        complain("type the value, then Enter and Ctrl-D (or pipe it in: it shows on the screen)\n");
    }
    // Room for all of it at once: a vector that grows leaves copies behind.
    let most = VALUE_BYTES_MAX + 2;
    let mut value = Zeroizing::new(Vec::with_capacity(usize::try_from(most).unwrap_or_default() + 1));
    input.take(most + 1).read_to_end(&mut value).context("cannot read standard input")?;
    let kept = value.strip_suffix(b"\n").map_or(value.len(), |line| line.strip_suffix(b"\r").unwrap_or(line).len());
    ensure!(kept > 0, "the value is empty: it is read from standard input");
    ensure!(kept as u64 <= VALUE_BYTES_MAX, "the value is larger than 64 KiB");
    Ok(Secret::new(value[..kept].to_vec()))
}

/// A value that nothing names is most likely a slip.
fn hint(config: &Config, name: &str) {
    if config.secrets.get(name) != Some(&Source::Sealed) {
        complain(&format!("help: write `{name} = {{ sealed = true }}` into `[secrets]` to use it\n"));
    }
}

fn hint_key(path: &Path) {
    let path = path.display();
    complain(&format!("help: from now on set `BULKHEAD_KEY_FILE={path}`, or give it as the credential, and restart\n"));
}

fn print_outcome(as_json: bool, text: &str, json: &Value) -> anyhow::Result<()> {
    if as_json { print(&json.to_string()) } else { print(text) }
}
