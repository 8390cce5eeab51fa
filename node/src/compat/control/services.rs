//! Lists of services, with a row for each session.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use limes_routing::{ServiceId, ServiceRow, Tables};

use super::filter::{contains, given, seconds};
use crate::compat::list::{Distinct, Order, Page, Top, Window};
use limes_api::control::{
    ListServiceRpCsRequest, ListServiceTopicsRequest, ListServicesRequest, ListServicesResponse, Service,
};

/// The columns that services can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Id,
    Name,
    Addr,
    Time,
}

const COLUMNS: [(&str, Column); 4] = [
    ("service_id", Column::Id),
    ("service", Column::Name),
    ("addr", Column::Addr),
    ("create_time", Column::Time),
];

/// A session of a service as the API shows it.
pub(super) fn message(row: &ServiceRow) -> Service {
    Service {
        service_id: row.service.0,
        service: row.name.to_string(),
        addr: row.addr.to_string(),
        create_time: seconds(row.born_ms),
    }
}

/// A page of services.
pub(super) fn list(tables: &Tables, request: &ListServicesRequest) -> ListServicesResponse {
    let page = Page::of(request.page, request.page_size);
    let window = Window::of(request.start_time, request.end_time);
    let order = Order::of(request.order.as_deref(), &COLUMNS, Column::Time, false);
    let (name, addr) = (given(request.service.as_ref()), given(request.addr.as_ref()));
    let (rpc, topic) = (given(request.rpc.as_ref()), given(request.topic.as_ref()));
    let mut top = Top::of(page, |one: &&ServiceRow, other: &&ServiceRow| compare(order, one, other));
    for row in tables.services() {
        if window.contains(seconds(row.born_ms))
            && name.is_none_or(|name| row.name.starts_with(name))
            && addr.is_none_or(|addr| row.addr.starts_with(addr))
            && rpc.is_none_or(|rpc| row.methods.contains(rpc))
            && topic.is_none_or(|topic| row.topics.contains(topic))
        {
            top.push(row);
        }
    }
    let (rows, count) = top.page(page);
    ListServicesResponse { services: rows.into_iter().map(message).collect(), count }
}

/// A request for the methods or the topics of services.
pub(super) struct NamesOf {
    service: Option<String>,
    id: Option<u64>,
    page: Page,
    window: Window,
    order: Order<Column>,
}

impl NamesOf {
    /// A page of the distinct names that `names` gives for the matching rows, and their total.
    pub(super) fn list(
        &self,
        tables: &Tables,
        names: impl Fn(&ServiceRow) -> &BTreeSet<Box<str>>,
    ) -> (Vec<String>, i32) {
        let service = given(self.service.as_ref());
        let id = self.id.filter(|id| *id != 0).map(ServiceId);
        let order = self.order;
        let mut distinct = Distinct::new(|one: &&ServiceRow, other: &&ServiceRow| compare(order, one, other));
        for row in tables.services() {
            if self.window.contains(seconds(row.born_ms))
                && id.is_none_or(|id| row.service == id)
                && service.is_none_or(|service| contains(&row.name, service))
            {
                names(row).iter().for_each(|name| distinct.push(name, row));
            }
        }
        distinct.page(self.page)
    }
}

impl From<ListServiceRpCsRequest> for NamesOf {
    fn from(request: ListServiceRpCsRequest) -> Self {
        NamesOf {
            page: Page::of(request.page, request.page_size),
            window: Window::of(request.start_time, request.end_time),
            order: Order::of(request.order.as_deref(), &COLUMNS, Column::Time, false),
            service: request.service,
            id: request.service_id,
        }
    }
}

impl From<ListServiceTopicsRequest> for NamesOf {
    fn from(request: ListServiceTopicsRequest) -> Self {
        let ListServiceTopicsRequest { service, service_id, page, page_size, start_time, end_time, order } =
            request;
        ListServiceRpCsRequest { service, service_id, page, page_size, start_time, end_time, order }.into()
    }
}

fn compare(order: Order<Column>, one: &ServiceRow, other: &ServiceRow) -> Ordering {
    let ascending = match order.column {
        Column::Id => one.service.cmp(&other.service),
        Column::Name => one.name.cmp(&other.name),
        Column::Addr => one.addr.cmp(&other.addr),
        Column::Time => seconds(one.born_ms).cmp(&seconds(other.born_ms)),
    };
    let age = || one.home.incarnation.cmp(&other.home.incarnation);
    order.apply(ascending.then_with(age))
}
