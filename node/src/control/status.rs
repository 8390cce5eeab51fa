//! The metrics port: `/metrics`, `/healthz`, `/readyz` and `/status`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

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

async fn metrics(State(page): State<Arc<StatusPage>>) -> String {
    let mut text = String::new();
    for (name, help, counter) in page.telemetry.metrics.series() {
        let value = counter.load(Ordering::Relaxed);
        text.push_str(&format!("# HELP {name} {help}.\n# TYPE {name} counter\n{name} {value}\n"));
    }
    page.telemetry.metrics.requests(&mut text);
    page.telemetry.metrics.cuts(&mut text);
    gauge(&mut text, "limes_memory_resident_bytes", "Resident memory of the process", page.memory.resident());
    gauge(
        &mut text,
        "limes_sessions",
        "SessionRegistry of edges and services on this node",
        page.sessions.len() as u64,
    );
    gauge(
        &mut text,
        "limes_ready",
        "Whether this node has a quorum and takes newcomers",
        page.consensus.is_ready().into(),
    );
    if let Some(replica) = page.consensus.replica() {
        let status = replica.status();
        let (edges, services) = replica.read(|tables| (tables.edge_count(), tables.services().count()));
        gauge(&mut text, "limes_edges", "Edges of the whole cluster", edges as u64);
        gauge(
            &mut text,
            "limes_services",
            "SessionRegistry of services of the whole cluster",
            services as u64,
        );
        gauge(&mut text, "limes_raft_leader", "Whether this node leads", replica.is_leader().into());
        gauge(&mut text, "limes_raft_term", "Raft's term", status.term);
        gauge(&mut text, "limes_raft_applied", "Index of the newest entry applied", status.applied.0);
        gauge(&mut text, "limes_raft_last_log", "Index of the newest entry of the log", status.last_log.map_or(0, |last| last.0));
        gauge(&mut text, "limes_raft_voters", "Members that vote", status.voters.len() as u64);
    }
    text
}

fn gauge(text: &mut String, name: &str, help: &str, value: u64) {
    text.push_str(&format!("# HELP {name} {help}.\n# TYPE {name} gauge\n{name} {value}\n"));
}
