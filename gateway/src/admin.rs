//! The second listener, for operators: is it alive, is it ready, what does it count.
//!
//! Loopback only: whoever reaches it may read it.

pub mod ask;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cost::CostMeter;

/// What the admin listener tells.
#[derive(Debug)]
pub struct Admin {
    registry: Registry,
    cost: Arc<CostMeter>,
    ready: AtomicBool,
}

impl Admin {
    /// Tells what is in the registry; not ready yet.
    pub fn new(registry: Registry, cost: Arc<CostMeter>) -> Arc<Self> {
        Arc::new(Self { registry, cost, ready: AtomicBool::new(false) })
    }

    /// Says whether clients may be sent here.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Serves until `stop`.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let router = Router::new()
            .route("/", get(index))
            .route("/live", get(|| async { "live\n" }))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/cost", get(cost))
            .with_state(self);
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::warn!(%error, "the admin listener ended");
        }
    }
}

/// Binds the admin address.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

async fn index() -> &'static str {
    "StreamHouse admin\n/live     200 while the process runs\n/ready    200 while it takes clients\n/metrics  Prometheus text\n/cost     requests, bytes and money\n"
}

async fn cost(State(admin): State<Arc<Admin>>) -> String {
    admin.cost.table()
}

async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    if admin.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text)
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], String::new()),
    }
}
