//! From the generated export traits to the SDK's own: one adapter for all of them. Used by [`export!`](crate::export).

use std::marker::PhantomData;

use crate::bindings::imports::bulkhead::connector::types;
use crate::bindings::{about, batch_consumer, consumer, scheduled, webhook};
use crate::message::milliseconds;
use crate::{BatchConsumer, Consumer, Failure, Message, Scheduled, Tick, Webhook, log};

/// What `export!` implements for each connector.
pub trait Describe {
    /// What the plugin says about itself.
    fn describe() -> crate::about::Description;
}

/// Implements each generated export trait for a connector that has the trait of the same name.
pub struct Adapter<T>(PhantomData<T>);

impl<T: Describe> about::exports::bulkhead::connector::about::Guest for Adapter<T> {
    fn describe() -> about::exports::bulkhead::connector::about::Description {
        let crate::about::Description { name, version, summary, config_schema, wants } = T::describe();
        about::exports::bulkhead::connector::about::Description { name, version, summary, config_schema, wants }
    }
}

impl<T: Consumer> consumer::exports::bulkhead::connector::consumer::Guest for Adapter<T> {
    fn handle(message: types::Message) -> Result<(), types::Failure> {
        log::install();
        T::handle(received(message)).map_err(told)
    }
}

impl<T: BatchConsumer> batch_consumer::exports::bulkhead::connector::batch_consumer::Guest for Adapter<T> {
    fn handle(messages: Vec<types::Message>) -> Vec<Result<(), types::Failure>> {
        log::install();
        let count = messages.len();
        let outcomes = T::handle(messages.into_iter().map(received).collect());
        assert_eq!(outcomes.len(), count, "a batch consumer answers one result for each message");
        outcomes.into_iter().map(|outcome| outcome.map_err(told)).collect()
    }
}

impl<T: Scheduled> scheduled::exports::bulkhead::connector::scheduled::Guest for Adapter<T> {
    fn run(tick: scheduled::exports::bulkhead::connector::scheduled::Tick) -> Result<(), types::Failure> {
        log::install();
        let tick = Tick {
            schedule: tick.schedule,
            planned_at_ms: tick.planned_at_ms,
            attempt: tick.attempt,
            input: tick.input,
            previous_ms: tick.previous_ms,
        };
        T::run(tick).map_err(told)
    }
}

impl<T: Webhook> webhook::exports::bulkhead::connector::webhook::Guest for Adapter<T> {
    fn receive(
        request: webhook::exports::bulkhead::connector::webhook::Request,
    ) -> Result<webhook::exports::bulkhead::connector::webhook::Response, types::Failure> {
        log::install();
        let request = crate::webhook::Request {
            id: request.id,
            method: request.method,
            target: request.target,
            remote_address: request.remote_address,
            parameters: request.parameters,
            headers: request.headers,
            body: request.body,
            verified_by: request.verified_by,
            received_at_ms: request.received_at_ms,
            attempt: request.attempt,
        };
        let crate::webhook::Response { status, headers, body } = T::receive(request).map_err(told)?;
        Ok(webhook::exports::bulkhead::connector::webhook::Response { status, headers, body })
    }
}

fn received(message: types::Message) -> Message {
    Message {
        id: message.id,
        queue: message.queue,
        key: message.key,
        headers: message.headers,
        body: message.body,
        attempt: message.attempt,
        enqueued_at_ms: message.enqueued_at_ms,
        expires_at_ms: message.expires_at_ms,
        parent: message.parent,
        hops: message.hops,
    }
}

fn told(failure: Failure) -> types::Failure {
    match failure {
        Failure::Retry { reason, after } => {
            types::Failure::Retry(types::Retry { reason, after_ms: after.map(milliseconds) })
        }
        Failure::Reject { reason } => types::Failure::Reject(reason),
    }
}
