//! `limes.v1`: the cluster as `limesctl` sees it, on the control port of any node.
//!
//! Each method translates its request to operations, and their results to messages.

use std::sync::Arc;

use limes_routing::Tables;
use tonic::{Request, Response, Status};

use super::error::OperationError;
use super::operations::Operations;
use super::pages::{Pages, pages};
use super::{rows, watch};
use crate::presence::Presence;
use limes_api::v1::limes_server::Limes as Api;
use limes_api::v1::{
    Change, EdgePage, ListEdgesRequest, ListServicesRequest, ServicePage, StatusReply, StatusRequest,
    WatchRequest,
};

/// Rows in one message: about 100 KiB.
const PAGE: usize = 1_000;

type Answer<T> = Result<Response<T>, Status>;

/// The service.
pub(crate) struct Limes {
    operations: Arc<Operations>,
    /// This node's name.
    name: String,
    /// Keeps the changes that watches read.
    presence: Arc<Presence>,
}

impl Limes {
    /// The service of the node with this name.
    pub(crate) fn new(operations: Arc<Operations>, name: String, presence: Arc<Presence>) -> Self {
        Limes { operations, name, presence }
    }

    /// The tables: as this node has applied them if `local`, else behind a read barrier.
    async fn tables(&self, local: bool) -> Result<Tables, OperationError> {
        let reader = self.operations.reader();
        if local { reader.local_tables() } else { reader.tables().await }
    }
}

#[tonic::async_trait]
impl Api for Limes {
    type ListEdgesStream = Pages<EdgePage>;
    type ListServicesStream = Pages<ServicePage>;
    type WatchStream = Pages<Change>;

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusReply> {
        let tables = self.tables(request.into_inner().local).await?;
        let consensus = self.operations.reader().consensus();
        let replica = consensus.replica().ok_or(OperationError::Starting)?;
        Ok(Response::new(rows::status(&self.name, consensus, replica, &tables)))
    }

    async fn list_edges(&self, request: Request<ListEdgesRequest>) -> Answer<Self::ListEdgesStream> {
        let ListEdgesRequest { local, node } = request.into_inner();
        let tables = self.tables(local).await?;
        Ok(pages(move |sink| async move {
            let names = rows::Names::of(&tables);
            let mut page = EdgePage { revision: tables.revision().0, edges: Vec::new() };
            for (id, row) in tables.edges().filter(|(_, row)| names.is(row.home.node, &node)) {
                page.edges.push(rows::edge(&names, id, &row));
                if page.edges.len() == PAGE {
                    let next = EdgePage { revision: page.revision, edges: Vec::new() };
                    if !sink.send(std::mem::replace(&mut page, next)).await {
                        return;
                    }
                }
            }
            // The last page is sent even if it is empty, because the client needs its revision.
            sink.send(page).await;
        }))
    }

    async fn list_services(&self, request: Request<ListServicesRequest>) -> Answer<Self::ListServicesStream> {
        let ListServicesRequest { local, node } = request.into_inner();
        let tables = self.tables(local).await?;
        Ok(pages(move |sink| async move {
            let names = rows::Names::of(&tables);
            let mut page = ServicePage { revision: tables.revision().0, services: Vec::new() };
            for row in tables.services().filter(|row| names.is(row.home.node, &node)) {
                page.services.push(rows::service(&names, row));
                if page.services.len() == PAGE {
                    let next = ServicePage { revision: page.revision, services: Vec::new() };
                    if !sink.send(std::mem::replace(&mut page, next)).await {
                        return;
                    }
                }
            }
            sink.send(page).await;
        }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let WatchRequest { from, local } = request.into_inner();
        let consensus = self.operations.reader().consensus().clone();
        let cluster = consensus.cluster().ok_or(OperationError::Starting)?;
        let start = watch::Start::parse(&from, cluster)?;
        let tables = self.tables(local).await?;
        start.check(&tables)?;
        let source = watch::Source { cluster, consensus, presence: self.presence.clone() };
        Ok(pages(move |sink| watch::follow(source, start, tables, sink)))
    }
}
