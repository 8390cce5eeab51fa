//! The metrics port: `/metrics`, `/healthz`, `/readyz` and `/status`.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::accept::http::HttpServer;
use crate::consensus::handle::Consensus;
use crate::limits::memory::MemoryPressure;
use crate::router::registry::SessionRegistry;
use crate::telemetry::Telemetry;
use crate::telemetry::port::Port;
use crate::telemetry::{dictionary, process};

/// What the metrics port reads.
pub(crate) struct StatusPage {
    /// This node's name.
    pub(crate) name: String,
    /// The replica.
    pub(crate) consensus: Consensus,
    /// Sessions held here.
    pub(crate) sessions: Arc<SessionRegistry>,
    /// Resident memory.
    pub(crate) memory: Arc<MemoryPressure>,
    /// Counters.
    pub(crate) telemetry: Arc<Telemetry>,
}

/// Serves `/metrics`, `/healthz`, `/readyz` and `/status`.
pub(crate) async fn serve(page: StatusPage, http: Arc<HttpServer>, listener: TcpListener) {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(page));
    http.serve(Port::Metrics, listener, router).await;
}

async fn readyz(State(page): State<Arc<StatusPage>>) -> (StatusCode, &'static str) {
    if page.consensus.is_ready() && !page.consensus.is_draining() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn status(State(page): State<Arc<StatusPage>>) -> Json<Value> {
    let Some(replica) = page.consensus.replica() else {
        return Json(json!({ "node": page.name, "leader": null, "voters": 0, "ready": false }));
    };
    let status = replica.status();
    let (leader, edges, services, members) = replica.read(|tables| {
        let name = |id| tables.members().find(|member| member.node == id).map(|member| member.name.clone());
        let members: Vec<Value> = tables
            .members()
            .map(|member| {
                let epoch = tables.live_epoch(member.node).map(|epoch| epoch.0);
                json!({ "name": member.name, "number": member.node.0, "epoch": epoch })
            })
            .collect();
        (status.leader.and_then(name), tables.edges().count(), tables.services().count(), members)
    });
    Json(json!({
        "node": page.name,
        "number": status.node.0,
        "leader": leader,
        "voters": status.voters.len(),
        "learners": status.learners.len(),
        "term": status.term,
        "applied": status.applied.0,
        "epoch": status.epoch.map(|epoch| epoch.0),
        "edges": edges,
        "services": services,
        "sessions": page.sessions.len(),
        "members": members,
        "ready": page.consensus.is_ready(),
        "trouble": replica.quorum_loss(),
    }))
}

async fn metrics(State(page): State<Arc<StatusPage>>) -> Result<String, StatusCode> {
    set_gauges(&page);
    // Reading the process's figures blocks, for longer the more files are open.
    let rendered = tokio::task::spawn_blocking(move || {
        process::measure(&page.telemetry.metrics);
        page.telemetry.metrics.render()
    });
    rendered.await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// Sets the gauges whose values other components hold.
fn set_gauges(page: &StatusPage) {
    let metrics = &page.telemetry.metrics;
    metrics.set(dictionary::MEMORY, page.memory.resident() as f64);
    metrics.set(dictionary::SESSIONS, page.sessions.len() as f64);
    metrics.set(dictionary::READY, f64::from(u8::from(page.consensus.is_ready())));
    let Some(replica) = page.consensus.replica() else { return };
    let status = replica.status();
    let (edges, services) = replica.read(|tables| (tables.edge_count(), tables.services().count()));
    metrics.set(dictionary::EDGES, edges as f64);
    metrics.set(dictionary::SERVICES, services as f64);
    metrics.set(dictionary::LEADER, f64::from(u8::from(replica.is_leader())));
    metrics.set(dictionary::TERM, status.term as f64);
    metrics.set(dictionary::APPLIED, status.applied.0 as f64);
    metrics.set(dictionary::LAST_LOG, status.last_log.map_or(0, |last| last.0) as f64);
    metrics.set(dictionary::VOTERS, status.voters.len() as f64);
}
