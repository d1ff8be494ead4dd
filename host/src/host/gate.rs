//! A connector's side of the gate, as its configuration describes it.
//!
//! The one place where grants are made from a configuration: for connectors that run, and to say what one could do.

use tokio::runtime::Handle;

use crate::capability::queue::Target;
use crate::capability::{Allow, Grants, Services, Subject};
use crate::config::Connector;
use crate::id::Name;
use crate::limit::MESSAGE_BYTES_DEFAULT;
use crate::settlement::{ConnectorId, QueueId};
use crate::trigger::webhook::Settings;

/// What a connector may do; `target` finds a queue that it may publish to.
pub(super) fn grants(
    services: &Services,
    subject: Subject,
    connector: &Connector,
    target: impl Fn(&Name) -> Option<Target>,
) -> Grants {
    let allow = Allow {
        publish: connector.allow.publish.iter().filter_map(target).collect(),
        secrets: connector.allow.secrets.clone(),
        http: connector.allow.http.clone(),
    };
    Grants::new(services, subject, connector.limits.clone(), &connector.config, allow)
}

/// What a connector may do to the world, and who may send to it, one permission a line: asked of the gate and of the
/// webhook as they are built for it.
#[must_use]
pub fn permissions(runtime: Handle, connector: &Connector) -> Vec<String> {
    let name = connector.name.clone();
    let subject = Subject { lineage: name.clone(), name, id: ConnectorId(0) };
    let target = |queue: &Name| {
        let (id, message_bytes) = (QueueId(0), MESSAGE_BYTES_DEFAULT);
        Some(Target { name: queue.clone(), id, message_bytes, message_key: None })
    };
    let may = grants(&Services::idle(runtime), subject, connector, target).permissions();
    may.into_iter().chain(connector.webhook.iter().map(Settings::permission)).collect()
}
