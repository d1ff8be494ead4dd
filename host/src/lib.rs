//! Bulkhead: runs integration connectors as sandboxed WebAssembly components.
//!
//! The modules are layers; imports follow the message and only point to the right:
//! `config → trigger → delivery → runtime → capability → outside → vocabulary`.
//! The entry layer (`cli`, `host`, `admin`) may import everything below it. A test in `tests/` keeps this true.
//!
//! | layer | modules |
//! | --- | --- |
//! | 0 entry | [`cli`], `host`, `admin` |
//! | 1 config | [`config`] |
//! | 2 trigger | [`trigger`] |
//! | 3 delivery | [`delivery`] |
//! | 4 runtime | [`runtime`] |
//! | 5 capability | [`capability`] |
//! | 6 outside | [`broker`], [`ledger`], [`egress`], `listener`, [`secret_store`], [`plugin_store`], [`audit`], [`telemetry`], [`backup`], [`page`] |
//! | 7 vocabulary | [`message`], [`settlement`], [`limit`], [`mask`], [`metrics`], [`feed`], [`bindings`], [`clock`], [`id`], [`planted`] |

pub mod admin;
pub mod audit;
pub mod backup;
pub mod bindings;
pub mod broker;
pub mod capability;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod egress;
pub mod feed;
pub mod host;
pub mod id;
pub mod ledger;
pub mod limit;
pub mod listener;
pub mod mask;
pub mod message;
pub mod metrics;
pub mod page;
pub mod planted;
pub mod plugin_store;
pub mod runtime;
pub mod secret_store;
pub mod settlement;
pub mod telemetry;
pub mod trigger;
