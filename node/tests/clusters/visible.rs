//! What clients may rely on: acknowledged means visible, the newest session wins, every node shows the changes in
//! one order, and a node without a quorum does not answer from stale tables.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::bare::Bare as Hand;
use crate::support::{Bed, PATIENCE, brisk, until};
use limes_api::v1::change::What;
use limes_api::v1::limes_client::LimesClient;
use limes_api::v1::{Change, Edge as Row, ListEdgesRequest, WatchRequest};
use limes_jepsen::bare::Bare;
use limes_jepsen::cluster::NodeAddrs;
use limes_jepsen::sessions::{Outcome, Record};
use limes_jepsen::takeovers::Takeovers;
use limes_sdk::Kind;
use limes_wire::Code;
use limes_wire::frame::{Ack, Frame, Message};
use tokio::time::timeout;

/// How long a process may stall before it learns of a takeover.
const NOTICE: Duration = Duration::from_secs(3);
/// Calls from every node that are judged.
const CALLS: usize = 400;

fn addrs(bed: &Bed, node: usize) -> NodeAddrs {
    let at = bed.cluster.node(node).addresses();
    NodeAddrs {
        edges: bed.edges(node),
        services: bed.services(node),
        metrics: at.metrics.to_string(),
        control: at.control.to_string(),
    }
}

async fn client(bed: &Bed, node: usize) -> LimesClient<tonic::transport::Channel> {
    let addr = bed.cluster.node(node).addresses().control;
    LimesClient::connect(format!("http://{addr}")).await.unwrap()
}

/// All changes from a position until the node has said that it has sent all up to a revision.
async fn watch(bed: &Bed, node: usize, from: &str, revision: u64) -> Vec<Change> {
    let request = WatchRequest { from: from.to_owned(), local: false };
    let mut stream = client(bed, node).await.watch(request).await.unwrap().into_inner();
    let mut changes = Vec::new();
    let all = async {
        loop {
            let change = stream.message().await.unwrap().expect("the watch stays open");
            let upto = matches!(&change.what, Some(What::Synced(synced)) if synced.revision >= revision);
            changes.push(change);
            if upto {
                break;
            }
        }
    };
    timeout(PATIENCE, all).await.expect("changes");
    changes
}

/// The edges after these changes, by id.
fn edges(changes: &[Change]) -> BTreeMap<u64, Row> {
    let mut edges: BTreeMap<u64, Row> = BTreeMap::new();
    for change in changes {
        match change.what.as_ref().unwrap() {
            What::Edge(edge) => _ = edges.insert(edge.id, edge.clone()),
            What::EdgeGone(gone)
                if edges.get(&gone.id).is_some_and(|held| held.incarnation == gone.incarnation) =>
            {
                edges.remove(&gone.id);
            }
            What::NodeDown(down) => edges.retain(|_, edge| edge.node != down.name),
            _ => {}
        }
    }
    edges
}

async fn listed(bed: &Bed, node: usize) -> (u64, BTreeMap<u64, Row>) {
    let request = ListEdgesRequest { local: false, node: String::new() };
    let mut pages = client(bed, node).await.list_edges(request).await.unwrap().into_inner();
    let (mut revision, mut edges) = (0, BTreeMap::new());
    while let Some(page) = pages.message().await.unwrap() {
        revision = page.revision;
        edges.extend(page.edges.into_iter().map(|edge| (edge.id, edge)));
    }
    (revision, edges)
}

/// The changes without those that only report a revision.
fn news(changes: &[Change]) -> Vec<&Change> {
    changes.iter().filter(|change| !matches!(change.what, Some(What::Synced(_)))).collect()
}

fn judge(record: &Record) {
    assert_eq!(record.judge(NOTICE), Vec::<String>::new());
    let late = record.judge(Duration::ZERO).len();
    assert!(late * 50 <= record.probes.len(), "{late} calls of {} reached old sessions", record.probes.len());
    let answered = record.probes.iter().filter(|probe| matches!(probe.outcome, Outcome::Answered(_))).count();
    let welcomed = record.sessions.iter().filter(|session| session.welcomed.is_some()).count();
    assert!(answered * 2 > record.probes.len(), "only {answered} of {} calls", record.probes.len());
    assert!(welcomed > 50, "only {welcomed} sessions");
}

/// Messages of each round.
const AT_ONCE: u64 = 50;

/// Also when the first of them waits for a read barrier, because this node has not applied the subscription yet.
async fn messages_of_one_sender_keep_their_order(bed: &Bed) {
    let mut sender = Hand::edge(&bed.edges(1)).await;
    let mut reader = Hand::service(&bed.services(3), "reader", "read").await;
    for round in 0..20 {
        let topic = format!("topic-{round}");
        reader.subscribe(&topic).await;
        let numbers = round * AT_ONCE..(round + 1) * AT_ONCE;
        sender.publish(&topic, numbers.clone()).await;
        for number in numbers.clone() {
            let Some(Frame::Message(Message { id, body, .. })) = reader.read().await else {
                panic!("no message")
            };
            assert_eq!(body, number.to_be_bytes()[..], "round {round}");
            reader.send(Frame::Ack(Ack { id, code: Code::OK, text: String::new() })).await;
        }
        for _ in numbers {
            let answer = sender.read().await;
            assert!(matches!(answer, Some(Frame::Ack(Ack { code: Code::OK, .. }))), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn what_clients_may_rely_on() {
    let bed = Bed::start_with(3, brisk).await;
    messages_of_one_sender_keep_their_order(&bed).await;
    bed.all_show(&[1, 2, 3], "edges", 0).await;
    acknowledged_is_visible_and_all_nodes_show_the_same_changes(&bed).await;
    without_a_quorum_misses_are_errors_and_ended_sessions_go_later(&bed).await;
}

async fn acknowledged_is_visible_and_all_nodes_show_the_same_changes(bed: &Bed) {
    let (before, _) = listed(bed, 1).await;
    let begin = watch(bed, 1, "", before).await.pop().unwrap().position;

    let nodes: Vec<_> = (1..=3).map(|node| addrs(bed, node)).collect();
    let takeovers = Takeovers::start(&nodes, 3).await.unwrap();
    until("calls", || async { (takeovers.calls() > CALLS).then_some(()) }).await;
    // A watch that begins in the middle.
    let middle = watch(bed, 2, "", 0).await;
    judge(&takeovers.finish().await.unwrap());

    // In the end all edges are gone, on each node.
    let revision = until("all edges are gone", || async {
        let (revision, edges) = listed(bed, 1).await;
        edges.is_empty().then_some(revision)
    })
    .await;
    let all = watch(bed, 1, &begin, revision).await;
    let other = watch(bed, 3, &begin, revision).await;
    let (all, other) = (news(&all), news(&other));
    assert!(all.len() > 100, "only {} changes", all.len());
    let shared = all.len().min(other.len());
    assert_eq!(all[..shared], other[..shared], "two nodes show different changes");
    // A watch that continues on another node misses no change and repeats none.
    for cut in [0, 1, shared / 3, shared / 2, shared - 2] {
        let rest = watch(bed, 1 + cut % 3, &all[cut].position, revision).await;
        let rest = news(&rest);
        let shared = rest.len().min(all.len() - cut - 1);
        assert_eq!(rest[..shared], all[cut + 1..][..shared], "after change {cut}");
        assert!(cut + 1 + shared + 5 > all.len(), "after change {cut} some are missing");
    }
    // The state in the middle plus the changes since are the state at the end.
    let at = middle.iter().rfind(|change| !change.position.is_empty()).unwrap();
    assert!(!edges(&middle).is_empty());
    let since = watch(bed, 1, &at.position, revision).await;
    let folded = edges(&[middle, since].concat());
    assert_eq!(folded, BTreeMap::new(), "the watch still shows edges that are gone");

    // An edge that disconnects at once, before or after its admission, leaves no row behind (R11).
    for at in 0..60_u64 {
        let node = &nodes[at as usize % 3];
        let _ = Bare::connect(&node.edges, Default::default(), false, Duration::from_millis(at % 12)).await;
    }
    until("no orphaned rows", || async { listed(bed, 2).await.1.is_empty().then_some(()) }).await;
    for node in 1..=3 {
        until("no sessions", || async { (bed.figure(node, "sessions").await == Some(0)).then_some(()) })
            .await;
    }
}

async fn without_a_quorum_misses_are_errors_and_ended_sessions_go_later(bed: &Bed) {
    let service = bed.service(1, "greeter").await;
    let (edge, leaves) = (bed.edge(1).await, bed.edge(1).await);
    assert_eq!(service.call(edge.id(), "echo", "x").await.unwrap(), "x");
    for other in [2, 3] {
        bed.cluster.stop_signal(other).await.unwrap();
    }
    // A known route needs no quorum; a miss does.
    let unknown = edge.id() + 5_000;
    let (to_unknown, to_none, late) = tokio::join!(
        service.call_within(unknown, "echo", "", PATIENCE),
        edge.call_within("none", "", PATIENCE),
        service.register("late", |call| async move { Ok(call.body) }),
    );
    for error in [to_unknown.unwrap_err(), to_none.unwrap_err()] {
        assert_eq!((error.kind(), error.may_have_run()), (Kind::NoQuorum, false), "{error}");
    }
    let error = late.unwrap_err();
    assert_eq!(error.kind(), Kind::NoQuorum, "{error}");
    assert_eq!(service.call(edge.id(), "echo", "x").await.unwrap(), "x");
    let left = leaves.id();
    leaves.close().await;
    for other in [2, 3] {
        bed.cluster.cont_signal(other).unwrap();
    }
    until("the edge is gone", || async {
        let error = service.call_within(left, "echo", "", PATIENCE).await.err()?;
        (error.kind() == Kind::NoEdge).then_some(())
    })
    .await;
    until("one edge", || async { (bed.figure(2, "edges").await == Some(1)).then_some(()) }).await;
}
