//! Watches of the tables: the state, then every change in the order of the log.

use std::sync::Arc;
use std::time::Duration;

use limes_routing::watch::{self, Entry};
use limes_routing::{NodeId, Position, Revision, Tables, Why};
use tonic::Status;

use super::pages::Sink;
use super::rows::{self, Names};
use crate::consensus::handle::Consensus;
use crate::presence::Presence;
use crate::presence::change_log::Change as TableChange;
use limes_api::v1::change::What;
use limes_api::v1::{
    Change, Compacted, Drained, Edge, EdgeGone, MembersChanged, NodeDown, NodeUp, ServiceGone, Setting,
    Synced,
};

/// Interval of `Synced` messages while nothing changes.
const IDLE: Duration = Duration::from_secs(10);

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// With all rows.
    State,
    /// With the next change.
    Now,
    /// With the first change after this position.
    After(Position),
}

impl Start {
    /// Parses the `from` of a request.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`: it is not a position. `FAILED_PRECONDITION`: it is a position of another cluster.
    pub(super) fn parse(text: &str, cluster: [u8; 16]) -> Result<Start, Status> {
        match text {
            "" => return Ok(Start::State),
            "now" => return Ok(Start::Now),
            _ => {}
        }
        let wrong = || Status::invalid_argument(format!("{text:?} is not a position of a watch"));
        let (of, place) = text.split_once(':').ok_or_else(wrong)?;
        let (revision, ordinal) = match place.split_once('.') {
            Some((revision, ordinal)) => (revision, Some(ordinal)),
            None => (place, None),
        };
        let revision = Revision(revision.parse().map_err(|_| wrong())?);
        let position = match ordinal {
            Some(ordinal) => Position { revision, ordinal: ordinal.parse().map_err(|_| wrong())? },
            None => Position::end_of(revision),
        };
        if of.len() != 2 * cluster.len() || !of.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        if of != hex(cluster) {
            return Err(Status::failed_precondition(format!("{text:?} is a position of another cluster")));
        }
        Ok(Start::After(position))
    }

    /// Checks that these tables have reached the position.
    ///
    /// # Errors
    /// `OUT_OF_RANGE`: it is ahead of them.
    pub(super) fn check(self, tables: &Tables) -> Result<(), Status> {
        match self {
            Start::After(at) if at.revision > tables.revision() => Err(Status::out_of_range(format!(
                "the position is at revision {}, but the cluster is at {}",
                at.revision,
                tables.revision()
            ))),
            _ => Ok(()),
        }
    }
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A position as clients get it: [`Start::parse`] reads it.
fn token(cluster: [u8; 16], at: Position) -> String {
    let cluster = hex(cluster);
    if at == Position::end_of(at.revision) {
        format!("{cluster}:{}", at.revision)
    } else {
        format!("{cluster}:{at}")
    }
}

/// What a watch reads.
pub(super) struct Source {
    /// The cluster's id, which is part of every position.
    pub(super) cluster: [u8; 16],
    /// Has the names of members.
    pub(super) consensus: Consensus,
    /// Keeps the changes.
    pub(super) presence: Arc<Presence>,
}

/// Sends changes until the client stops reading, or until the changes after its position have been
/// compacted.
pub(super) async fn follow(source: Source, start: Start, tables: Tables, sink: Sink<Change>) {
    if start == Start::State && !state(&tables, &sink).await {
        return;
    }
    let (position, caught_up) = match start {
        Start::After(position) => (position, false),
        Start::State | Start::Now => (Position::end_of(tables.revision()), true),
    };
    drop(tables);
    let mut follower = Follower { source, sink, position, caught_up };
    if caught_up && !follower.send_synced().await {
        return;
    }
    while follower.step().await {}
}

/// One watch. Its methods return false when the watch has ended.
struct Follower {
    source: Source,
    sink: Sink<Change>,
    /// The client has all changes up to here.
    position: Position,
    /// Whether the client has been sent `Synced`. One that continues from a position gets it once it has all
    /// past changes.
    caught_up: bool,
}

impl Follower {
    /// Sends the next changes, or waits for them.
    async fn step(&mut self) -> bool {
        let changes = &self.source.presence.changes;
        // Read before the changes, so that a change in between is not missed.
        let newest = changes.newest();
        match changes.after(self.position) {
            Ok(entries) if entries.is_empty() => self.wait(newest).await,
            Ok(entries) => self.send(&entries).await,
            Err(watch::Compacted(Revision(revision))) => {
                let what = Some(What::Compacted(Compacted { revision }));
                self.sink.send(Change { position: String::new(), what }).await;
                false
            }
        }
    }

    /// Waits for entries after `newest`; sends `Synced` if there are none for [`IDLE`], and when the client has
    /// caught up.
    async fn wait(&mut self, newest: Revision) -> bool {
        let changes = &self.source.presence.changes;
        // The entries applied up to here have changed nothing.
        self.position = self.position.max(Position::end_of(newest));
        if self.caught_up {
            changes.newer(newest, IDLE).await;
            if changes.newest() != newest {
                return true;
            }
        }
        self.caught_up = true;
        self.send_synced().await
    }

    async fn send(&mut self, entries: &[Arc<Entry<TableChange>>]) -> bool {
        let names = names(&self.source.consensus);
        for entry in entries {
            for (next, change) in entry.after(self.position) {
                let change =
                    Change { position: token(self.source.cluster, next), what: Some(what(&names, change)) };
                if !self.sink.send(change).await {
                    return false;
                }
            }
            self.position = self.position.max(Position::end_of(entry.revision));
        }
        true
    }

    async fn send_synced(&self) -> bool {
        let what = Some(What::Synced(Synced { revision: self.position.revision.0 }));
        self.sink.send(Change { position: token(self.source.cluster, self.position), what }).await
    }
}

fn names(consensus: &Consensus) -> Names {
    consensus.replica().map_or_else(Names::none, |replica| replica.read(Names::of))
}

/// Sends all rows; returns false if the client does not read.
async fn state(tables: &Tables, sink: &Sink<Change>) -> bool {
    let names = Names::of(tables);
    let up = tables.nodes().filter(|(_, row)| !row.down).map(|(id, row)| (id, row.epoch.0));
    let nodes = up.map(|(id, epoch)| What::NodeUp(NodeUp { name: names.name(id), epoch }));
    let services = tables.services().map(|row| What::Service(rows::service(&names, row)));
    let edges = tables.edges().map(|(id, row)| What::Edge(rows::edge(&names, id, &row)));
    for what in nodes.chain(services).chain(edges) {
        if !sink.send(Change { position: String::new(), what: Some(what) }).await {
            return false;
        }
    }
    true
}

fn what(names: &Names, seen: &TableChange) -> What {
    let name = |node: &NodeId| names.name(*node);
    match seen {
        TableChange::Edge { edge, home, addr, meta } => What::Edge(Edge {
            id: edge.0,
            node: names.name(home.node),
            addr: addr.to_string(),
            meta: String::from_utf8_lossy(meta).into_owned(),
            incarnation: home.incarnation.to_string(),
        }),
        TableChange::EdgeGone { edge, home, why } => What::EdgeGone(EdgeGone {
            id: edge.0,
            node: names.name(home.node),
            incarnation: home.incarnation.to_string(),
            why: word(*why).to_owned(),
        }),
        TableChange::Service(row) => What::Service(rows::service(names, row)),
        TableChange::ServiceGone { service, home, why } => What::ServiceGone(ServiceGone {
            id: service.0,
            node: names.name(home.node),
            session: home.session.0,
            why: word(*why).to_owned(),
        }),
        TableChange::NodeUp(node, epoch) => What::NodeUp(NodeUp { name: name(node), epoch: epoch.0 }),
        TableChange::NodeDown(node, epoch) => What::NodeDown(NodeDown { name: name(node), epoch: epoch.0 }),
        TableChange::Members => What::MembersChanged(MembersChanged {}),
        TableChange::Drain(node, on) => What::Drained(Drained { name: name(node), on: *on }),
        TableChange::Setting(key, value) => What::Setting(Setting { key: key.clone(), value: value.clone() }),
    }
}

fn word(why: Why) -> &'static str {
    match why {
        Why::Ended => "ended",
        Why::Replaced => "replaced",
        Why::Kicked => "kicked",
        Why::NodeGone => "node gone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_parses_as_it_was_printed() {
        let places = [Position::end_of(Revision(7)), Position { revision: Revision(8), ordinal: 3 }];
        for place in places {
            let text = token([7; 16], place);
            assert_eq!(Start::parse(&text, [7; 16]).ok(), Some(Start::After(place)), "{text}");
        }
    }

    #[test]
    fn position_of_another_cluster_is_rejected() {
        let places = [Position::end_of(Revision(7)), Position { revision: Revision(8), ordinal: 3 }];
        for place in places {
            let error = Start::parse(&token([7; 16], place), [8; 16]).unwrap_err();
            assert_eq!(error.code(), tonic::Code::FailedPrecondition);
        }
    }

    #[test]
    fn empty_text_is_the_state_and_now_the_next_change() {
        assert_eq!(Start::parse("", [7; 16]).ok(), Some(Start::State));
        assert_eq!(Start::parse("now", [7; 16]).ok(), Some(Start::Now));
    }

    #[test]
    fn malformed_positions_are_rejected() {
        for wrong in ["7", ":", "07:7.", "07:.7", "07:7.7.7", "07:-1"] {
            assert_eq!(
                Start::parse(wrong, [7; 16]).unwrap_err().code(),
                tonic::Code::InvalidArgument,
                "{wrong}"
            );
        }
    }

    #[test]
    fn position_ahead_of_the_tables_is_out_of_range() {
        let ahead = Start::After(Position::end_of(Revision(1)));
        assert_eq!(ahead.check(&Tables::new()).unwrap_err().code(), tonic::Code::OutOfRange);
    }
}
