//! Lists of edges, services and nodes, by cursor or by ids.

use limes_routing::pick::mix;
use limes_routing::{EdgeId, EdgeRow, ServiceRow, Tables};
use tonic::Status;

use super::frontiers::{Frontiers, hash};
use super::upstream::UpstreamNodes;
use crate::compat::list::scan;
use limes_api::discovery::{
    Edge, ListEdgesRequest, ListEdgesResponse, ListFrontiersRequest, ListFrontiersResponse,
    ListServicesRequest, ListServicesResponse, Service,
};

/// The error for a row that does not exist, as the reference's store words it.
pub(super) fn nil() -> Status {
    Status::not_found("redis: nil")
}

fn illegal() -> Status {
    Status::invalid_argument("illegal request")
}

/// A list of nodes. It is never empty, because clients of the reference would close all their connections.
pub(super) fn frontiers(
    tables: &Tables,
    nodes: &Frontiers<'_>,
    upstream: &UpstreamNodes,
    request: &ListFrontiersRequest,
) -> Result<ListFrontiersResponse, Status> {
    let all_nodes = || {
        let mut all = nodes.all();
        all.extend(upstream.frontiers.iter().cloned());
        all
    };
    let ListFrontiersRequest { cursor, count, edge_ids, frontier_ids } = request;
    if let Some((cursor, count)) = cursor.zip(*count) {
        let all = all_nodes();
        let (next, some) = scan(|| all.iter().map(|node| (hash(&node.frontier_id), node)), cursor, count);
        return Ok(ListFrontiersResponse {
            cursor: Some(next),
            frontiers: some.into_iter().cloned().collect(),
        });
    }
    let frontiers: Vec<_> = if !edge_ids.is_empty() {
        let home = |edge: &u64| match tables.edge(EdgeId(*edge)) {
            Some(row) => nodes.of_node(row.home.node),
            None => upstream.homes.get(edge).cloned(),
        };
        edge_ids.iter().filter_map(home).collect()
    } else if !frontier_ids.is_empty() {
        let all = all_nodes();
        let named = |name: &String| all.iter().find(|node| node.frontier_id == *name).cloned();
        frontier_ids.iter().filter_map(named).collect()
    } else {
        let all = all_nodes();
        if all.is_empty() {
            return Err(Status::unavailable("no node of the cluster is up"));
        }
        all
    };
    if frontiers.is_empty() { Err(nil()) } else { Ok(ListFrontiersResponse { cursor: None, frontiers }) }
}

/// A list of edges, without those of the ids that are not connected.
pub(super) fn edges(
    tables: &Tables,
    nodes: &Frontiers<'_>,
    request: &ListEdgesRequest,
) -> Result<ListEdgesResponse, Status> {
    let (cursor, rows) = match request.cursor.zip(request.count) {
        Some((cursor, count)) => {
            let rows = || tables.edges().map(|(edge, row)| (edge.0, (edge, row)));
            let (next, rows) = scan(rows, cursor, count);
            (Some(next), rows)
        }
        None if request.edge_ids.is_empty() => return Err(illegal()),
        None => {
            let ids = request.edge_ids.iter().map(|edge| EdgeId(*edge));
            (None, ids.filter_map(|edge| Some((edge, tables.edge(edge)?))).collect())
        }
    };
    let edges = rows.into_iter().map(|(edge, row)| edge_message(edge, &row, nodes)).collect();
    Ok(ListEdgesResponse { cursor, edges })
}

/// A list of sessions of services, without those of the ids that are not connected.
pub(super) fn services(
    tables: &Tables,
    nodes: &Frontiers<'_>,
    request: &ListServicesRequest,
) -> Result<ListServicesResponse, Status> {
    let (cursor, rows): (_, Vec<&ServiceRow>) = match request.cursor.zip(request.count) {
        Some((cursor, count)) => {
            let key =
                |row: &ServiceRow| mix(mix(row.service.0) ^ mix(row.home.node.0 + 1) ^ row.home.session.0);
            let (next, rows) = scan(|| tables.services().map(|row| (key(row), row)), cursor, count);
            (Some(next), rows)
        }
        None if request.service_ids.is_empty() => return Err(illegal()),
        None => {
            (None, tables.services().filter(|row| request.service_ids.contains(&row.service.0)).collect())
        }
    };
    let services = rows.into_iter().map(|row| service_message(row, nodes)).collect();
    Ok(ListServicesResponse { cursor, services })
}

/// An edge as the directory shows it.
pub(super) fn edge_message(edge: EdgeId, row: &EdgeRow<'_>, nodes: &Frontiers<'_>) -> Edge {
    Edge {
        edge_id: edge.0,
        addr: row.addr.to_owned(),
        update_time: row.born_ms / 1_000,
        frontier_id: nodes.name(row.home.node).unwrap_or_default().to_owned(),
    }
}

/// A session of a service as the directory shows it.
pub(super) fn service_message(row: &ServiceRow, nodes: &Frontiers<'_>) -> Service {
    Service {
        service: row.name.to_string(),
        addr: row.addr.to_string(),
        update_time: row.born_ms / 1_000,
        frontier_id: nodes.name(row.home.node).unwrap_or_default().to_owned(),
    }
}
