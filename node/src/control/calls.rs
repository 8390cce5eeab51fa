//! The service's calls.

use std::time::Duration;

use limes_routing::Tables;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Limes, rows, watch};
use crate::tasks;
use limes_api::v1::limes_server::Limes as Api;
use limes_api::v1::{
    Change, EdgePage, ListEdgesRequest, ListServicesRequest, ServicePage, StatusReply, StatusRequest,
    WatchRequest,
};

/// Rows in one message: some 100 KiB.
const PAGE: usize = 1_000;
/// Pages that wait for a slow reader.
const WAITING: usize = 2;
/// How long a reader may leave a page waiting before its list is given up.
const PATIENCE: Duration = Duration::from_secs(30);

type Answer<T> = Result<Response<T>, Status>;
type Pages<T> = ReceiverStream<Result<T, Status>>;

impl Limes {
    async fn tables(&self, local: bool) -> Result<Tables, Status> {
        if local { self.reader.local_tables() } else { self.reader.tables().await }
    }
}

/// Sends rows in pages; a task of its own, so that a slow reader holds up nobody.
fn pages<T, F>(work: impl FnOnce(Sink<T>) -> F) -> Answer<Pages<T>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sink, pages) = mpsc::channel(WAITING);
    tasks::spawn(tasks::Kind::Control, work(Sink(sink)));
    Ok(Response::new(ReceiverStream::new(pages)))
}

/// Where pages go.
pub(super) struct Sink<T>(mpsc::Sender<Result<T, Status>>);

impl<T> Sink<T> {
    /// Whether the reader has room for one more within its time.
    pub(super) async fn send(&self, page: T) -> bool {
        matches!(timeout(PATIENCE, self.0.send(Ok(page))).await, Ok(Ok(())))
    }
}

#[tonic::async_trait]
impl Api for Limes {
    type ListEdgesStream = Pages<EdgePage>;
    type ListServicesStream = Pages<ServicePage>;
    type WatchStream = Pages<Change>;

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusReply> {
        let tables = self.tables(request.into_inner().local).await?;
        let node = self.reader.node();
        let replica = node.replica().ok_or_else(|| Status::unavailable("this node is still starting"))?;
        Ok(Response::new(rows::status(node, replica, &tables)))
    }

    async fn list_edges(&self, request: Request<ListEdgesRequest>) -> Answer<Self::ListEdgesStream> {
        let ListEdgesRequest { local, node } = request.into_inner();
        let tables = self.tables(local).await?;
        pages(move |sink| async move {
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
            // The last page is sent even if it is empty: its revision is an answer.
            sink.send(page).await;
        })
    }

    async fn list_services(&self, request: Request<ListServicesRequest>) -> Answer<Self::ListServicesStream> {
        let ListServicesRequest { local, node } = request.into_inner();
        let tables = self.tables(local).await?;
        pages(move |sink| async move {
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
        })
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let WatchRequest { from, local } = request.into_inner();
        let node = self.reader.node().clone();
        let start = watch::Start::parse(&from, node.cluster())?;
        let tables = self.tables(local).await?;
        start.check(&tables)?;
        pages(move |sink| watch::follow(node, start, tables, sink))
    }
}
