//! What a plugin says about itself when it is inspected or loaded. [`export!`](crate::export) writes it.

use schemars::JsonSchema;

/// A plugin's description.
///
/// ```
/// use bulkhead_sdk::about::Description;
///
/// let about = Description { name: "orders".into(), wants: vec!["publish = [\"orders\"]".into()], ..Description::default() };
/// assert_eq!(about.config_schema, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The crate's name unless `export!` says otherwise.
    pub name: String,
    /// The crate's version.
    pub version: String,
    /// One paragraph for a catalogue.
    pub summary: String,
    /// JSON Schema (2020-12) of the connector's `config` table.
    pub config_schema: Option<String>,
    /// The grants that it needs to be useful, as the operator would write them in `allow`.
    pub wants: Vec<String>,
}

/// The JSON Schema (2020-12) of a type, indented: what `export!(…, config = T)` publishes.
///
/// ```
/// #[derive(schemars::JsonSchema)]
/// struct Config { repo: String }
///
/// assert!(bulkhead_sdk::about::schema_of::<Config>().contains("\"repo\""));
/// ```
#[must_use]
pub fn schema_of<T: JsonSchema>() -> String {
    format!("{:#}", schemars::schema_for!(T).to_value())
}
