//! The checked-in schema is the one that the plugin publishes.

#[test]
fn the_checked_in_schema_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config.schema.json");
    bulkhead_sdk::testing::check_schema::<bulkhead_plugin_jq::Config>(path);
}
