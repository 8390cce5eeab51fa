//! The service's calls.

use limes_routing::Tables;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::context::Limes;
use super::sink::Sink;
use super::{rows, watch};
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
    tasks::spawn(tasks::Kind::Control, work(Sink::new(sink)));
    Ok(Response::new(ReceiverStream::new(pages)))
}

#[tonic::async_trait]
impl Api for Limes {
    type ListEdgesStream = Pages<EdgePage>;
    type ListServicesStream = Pages<ServicePage>;
    type WatchStream = Pages<Change>;

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusReply> {
        let tables = self.tables(request.into_inner().local).await?;
        let consensus = self.reader.consensus();
        let replica =
            consensus.replica().ok_or_else(|| Status::unavailable("this node is still starting"))?;
        Ok(Response::new(rows::status(&self.name, consensus, replica, &tables)))
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
        let consensus = self.reader.consensus().clone();
        let starting = || Status::unavailable("this node is still starting");
        let cluster = consensus.cluster().ok_or_else(starting)?;
        let start = watch::Start::parse(&from, cluster)?;
        let tables = self.tables(local).await?;
        start.check(&tables)?;
        let source = watch::Source { cluster, consensus, presence: self.presence.clone() };
        pages(move |sink| watch::follow(source, start, tables, sink))
    }
}
