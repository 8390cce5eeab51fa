//! Lists of edges.

use std::cmp::Ordering;

use limes_routing::{EdgeId, EdgeRow, Tables};

use super::filter::{contains, given, seconds};
use crate::compat::list::{Distinct, Order, Page, Top, Window};
use crate::router::edge_methods::ByEdge;
use limes_api::control::{Edge, ListEdgeRpCsRequest, ListEdgesRequest, ListEdgesResponse};

type Row<'a> = (EdgeId, EdgeRow<'a>);

/// The columns that edges can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Id,
    Meta,
    Addr,
    Time,
}

const COLUMNS: [(&str, Column); 4] =
    [("edge_id", Column::Id), ("meta", Column::Meta), ("addr", Column::Addr), ("create_time", Column::Time)];

/// An edge as the API shows it.
pub(super) fn message(edge: EdgeId, row: &EdgeRow<'_>) -> Edge {
    Edge {
        edge_id: edge.0,
        meta: String::from_utf8_lossy(row.meta).into_owned(),
        addr: row.addr.to_owned(),
        create_time: seconds(row.born_ms),
    }
}

/// A page of edges. `methods` are those of all edges; needed only if the request filters by a method.
pub(super) fn list(tables: &Tables, methods: &ByEdge, request: &ListEdgesRequest) -> ListEdgesResponse {
    let page = Page::of(request.page, request.page_size);
    let window = Window::of(request.start_time, request.end_time);
    let order = Order::of(request.order.as_deref(), &COLUMNS, Column::Time, true);
    let (meta, addr, rpc) =
        (given(request.meta.as_ref()), given(request.addr.as_ref()), given(request.rpc.as_ref()));
    let mut top = Top::of(page, |one, other| compare(order, one, other));
    for (edge, row) in matching(tables, request.edge_id, window) {
        if meta.is_none_or(|meta| row.meta.starts_with(meta.as_bytes()))
            && addr.is_none_or(|addr| row.addr.starts_with(addr))
            && rpc.is_none_or(|rpc| methods.get(&edge).is_some_and(|methods| methods.contains(rpc)))
        {
            top.push((edge, row));
        }
    }
    let (rows, count) = top.page(page);
    ListEdgesResponse { edges: rows.iter().map(|(edge, row)| message(*edge, row)).collect(), count }
}

/// A page of the methods of the matching edges, and their total; `methods` are those of all edges.
pub(super) fn rpcs(tables: &Tables, methods: &ByEdge, request: &ListEdgeRpCsRequest) -> (Vec<String>, i32) {
    let window = Window::of(request.start_time, request.end_time);
    let order = Order::of(request.order.as_deref(), &COLUMNS, Column::Time, false);
    let meta = given(request.meta.as_ref());
    let mut names = Distinct::new(|one, other| compare(order, one, other));
    for (edge, row) in matching(tables, request.edge_id, window) {
        if meta.is_none_or(|meta| contains(&String::from_utf8_lossy(row.meta), meta)) {
            methods.get(&edge).into_iter().flatten().for_each(|method| names.push(method, (edge, row)));
        }
    }
    names.page(Page::of(request.page, request.page_size))
}

/// The edges that match an id, if there is one, and a time window.
fn matching(tables: &Tables, edge: Option<u64>, window: Window) -> impl Iterator<Item = Row<'_>> {
    let edge = edge.filter(|edge| *edge != 0).map(EdgeId);
    let one = edge.and_then(|edge| Some((edge, tables.edge(edge)?)));
    let all = edge.is_none().then(|| tables.edges());
    let rows = one.into_iter().chain(all.into_iter().flatten());
    rows.filter(move |(_, row)| window.contains(seconds(row.born_ms)))
}

fn compare(order: Order<Column>, one: &Row<'_>, other: &Row<'_>) -> Ordering {
    let ascending = match order.column {
        Column::Id => one.0.cmp(&other.0),
        Column::Meta => one.1.meta.cmp(other.1.meta),
        Column::Addr => one.1.addr.cmp(other.1.addr),
        Column::Time => seconds(one.1.born_ms).cmp(&seconds(other.1.born_ms)),
    };
    let age = || one.1.home.incarnation.cmp(&other.1.home.incarnation);
    order.apply(ascending.then_with(age))
}
