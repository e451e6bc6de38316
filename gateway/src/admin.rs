//! The second listener, for operators: is it alive, is it ready, what does it count; and the console, a page for people.
//!
//! Loopback only: whoever reaches it may read it. Nothing can be changed here.

pub mod ask;
pub mod console;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::console::reading::Reading;
use self::console::{Console, Question, is_asked_by_address};
use crate::cost::CostMeter;

/// What the admin listener tells.
#[derive(Debug)]
pub struct Admin {
    registry: Registry,
    cost: Arc<CostMeter>,
    console: Console,
    ready: AtomicBool,
}

impl Admin {
    /// Tells what is in the registry; not ready yet.
    pub fn new(registry: Registry, cost: Arc<CostMeter>, console: Console) -> Arc<Self> {
        Arc::new(Self { registry, cost, console, ready: AtomicBool::new(false) })
    }

    /// Says whether clients may be sent here.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Serves until `stop`.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let router = Router::new()
            .route("/", get(page))
            .route("/console", get(page))
            .route("/console/data", get(data))
            .route("/live", get(|| async { "live\n" }))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/cost", get(cost))
            .with_state(Arc::clone(&self));
        let serving =
            axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned()).into_future();
        let ((), served) = tokio::join!(self.take_points(stop), serving);
        if let Err(error) = served {
            tracing::warn!(%error, "the admin listener ended");
        }
    }

    /// Feeds the plots until `stop`.
    async fn take_points(&self, stop: CancellationToken) {
        let mut ticks = interval(self.console.point_every());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.console.look(self.reading());
        }
    }

    /// The metrics as they are told; what cannot be told is nothing.
    fn text(&self) -> Option<String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).ok().map(|()| text)
    }

    fn reading(&self) -> Reading {
        Reading::of(&self.text().unwrap_or_default())
    }
}

/// Binds the admin address.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

async fn page() -> Response {
    let (page, policy) = Console::page();
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (headers, page).into_response()
}

/// What the page shows, as JSON. Names of topics and groups are not for whoever can make a browser ask.
async fn data(State(admin): State<Arc<Admin>>, headers: HeaderMap, Query(question): Query<Question>) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_asked_by_address(host) {
        return (StatusCode::FORBIDDEN, "ask by address, such as 127.0.0.1, or localhost\n").into_response();
    }
    let reading = admin.reading();
    let answer = admin.console.answer(question, &reading, admin.cost.money(), admin.is_ready()).await;
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    match serde_json::to_string(&answer) {
        Ok(json) => (headers, json).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn cost(State(admin): State<Arc<Admin>>) -> String {
    admin.cost.table()
}

async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, &'static str) {
    if admin.is_ready() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    match admin.text() {
        Some(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text)
        }
        None => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], String::new()),
    }
}
