//! Sockets that the host listens on, and how they are bound and stopped.
//!
//! Serves any axum router, or a [`Handler`] for strangers within [`Bounds`]; what is answered is the caller's. Every
//! listener has an owner that awaits it, and bounds what connections may take.

mod bounded;
mod desk;
mod framing;
mod stream;
pub mod tls;

use std::future::Future;
use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use bounded::{Bounds, Handler, Peer};

/// A bound socket that does not answer yet.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// The address is taken or not this machine's.
    pub async fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let address = socket.local_addr().context("a bound socket has an address")?;
        Ok(Self { socket, address })
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` resolves, then lets requests under way finish.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()> + Send + 'static) {
        desk::Desk::new(router).serve(self.socket, stop).await;
    }

    /// Answers strangers until `stopped` turns true, then lets requests under way finish.
    ///
    /// # Errors
    /// The certificate cannot be used.
    pub async fn serve_bounded<H: Handler>(
        self,
        handler: H,
        bounds: Bounds,
        certificate: Option<tls::Certificate>,
        stopped: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        bounded::Door { handler, bounds, certificate, stopped }.serve(self.socket).await
    }
}
