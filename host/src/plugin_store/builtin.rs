//! The built-in plugins, embedded in the binary.
//!
//! The build script makes the table from `plugins/`, so that a new plugin needs no line here.

/// Name and component, sorted by name.
static TABLE: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// The component of a built-in plugin, as in `plugin = "builtin:NAME"`.
#[must_use]
pub fn builtin(name: &str) -> Option<&'static [u8]> {
    TABLE.iter().find(|(known, _)| *known == name).map(|(_, component)| *component)
}

/// The names of all built-in plugins, sorted.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of a component, as against a core module.
    const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";

    #[test]
    fn every_plugin_of_the_repository_is_a_component() {
        let names: Vec<_> = builtin_names().collect();
        assert_eq!(names, ["http-poll", "http-request", "jq", "log"]);
        for name in names {
            assert!(builtin(name).is_some_and(|component| component.starts_with(&COMPONENT)), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_has_none() {
        assert_eq!(builtin("nothing"), None);
    }
}
