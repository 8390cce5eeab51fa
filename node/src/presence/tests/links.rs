//! Commands to the links to other nodes, and routes over them.

use super::*;
use crate::router::message::{LinkCommand, LinkHandle, LinkMessage};
use crate::router::resolve::resolve;

/// A mailbox in the place of the third node's link to another.
fn link(world: &World, to: u64, silent: bool) -> Mailbox<LinkMessage> {
    let mailbox = Mailbox::new();
    let link = LinkHandle::new(mailbox.clone());
    world.members[2].node.peers.pretend(NodeId(to), &link, silent);
    mailbox
}

/// The takeovers and session ends in a link's mailbox.
fn commands(link: &Mailbox<LinkMessage>) -> (usize, Vec<(Destination, Code)>) {
    let (mut takeovers, mut over) = (0, Vec::new());
    for message in link.take_all() {
        match message {
            LinkMessage::Command(LinkCommand::Takeover { .. }) => takeovers += 1,
            LinkMessage::Command(LinkCommand::SessionOver(target, code)) => over.push((target, code)),
            other => panic!("{other:?}"),
        }
    }
    (takeovers, over)
}

/// R4: the old home is notified of a takeover; if it is silent, the other nodes are.
#[test]
fn takeover_is_announced_to_the_old_home_or_if_it_is_silent_to_the_others() {
    for silent in [false, true] {
        let mut world = World::new(1);
        world.connect(0, EdgeId(1), false);
        (0..3).for_each(|at| world.catch_up(at));
        let old = world.tables.edge(EdgeId(1)).unwrap().home;
        let (home, other) = (link(&world, 1, silent), link(&world, 2, false));
        world.connect(2, EdgeId(1), false);
        world.catch_up(2);
        let over = (Destination::Edge(EdgeId(1), old.incarnation), Code::REPLACED);
        assert_eq!(commands(&home), (usize::from(!silent), vec![over]));
        assert_eq!(commands(&other), (usize::from(silent), vec![]));
    }
}

/// Requests forwarded to a session that an operator ends are failed even if its node does not report the end.
#[test]
fn link_ends_what_was_forwarded_to_a_kicked_session() {
    let mut world = World::new(1);
    world.connect(0, EdgeId(1), false);
    world.serve(0, ServiceId(1));
    (0..3).for_each(|at| world.catch_up(at));
    let link = link(&world, 1, false);
    let home = world.tables.edge(EdgeId(1)).unwrap().home;
    world.plain(Event::Kick { edge: EdgeId(1) });
    world.catch_up(2);
    let over = |target| (0, vec![(target, Code::GONE)]);
    assert_eq!(commands(&link), over(Destination::Edge(EdgeId(1), home.incarnation)));
    let service = world.tables.services().next().map(|row| (row.service, row.home)).unwrap();
    world.plain(Event::KickService { service: service.0 });
    world.catch_up(2);
    assert_eq!(commands(&link), over(Destination::Service(service.0, service.1.session, service.1.epoch)));
}

/// A service on a node that has not answered pings is selected only if there is no other.
#[test]
fn services_on_silent_nodes_are_selected_only_if_there_is_no_other() {
    let mut world = World::new(1);
    world.serve(0, ServiceId(1));
    world.serve(1, ServiceId(2));
    (0..3).for_each(|at| world.catch_up(at));
    let node = world.members[2].node.clone();
    let picked = |key| {
        let request = Request { key, ..request("greet", mpsc::unbounded_channel().0) };
        match resolve(&node.router, &request) {
            Resolution::Routed(route) => route.node.unwrap().0,
            other => panic!("{other:?}"),
        }
    };
    let _links = (link(&world, 1, false), link(&world, 2, false));
    assert_eq!((picked(0), picked(1)), (1, 2));
    let _links = (link(&world, 1, true), link(&world, 2, false));
    assert_eq!((picked(0), picked(1)), (2, 2));
    let _links = (link(&world, 1, true), link(&world, 2, true));
    assert_eq!((picked(0), picked(1)), (1, 2), "a silent node is better than none");
}

/// A request that was cancelled before it was read does not run elsewhere.
#[tokio::test]
async fn cancelled_unread_request_is_not_redirected() {
    let mut world = World::new(1);
    world.serve(0, ServiceId(1));
    world.serve(0, ServiceId(2));
    world.catch_up(0);
    let node = world.members[0].node.clone();
    let one = node.presence.services.load().method("greet")[0];
    let (sender, mut answers) = mpsc::unbounded_channel();
    let request = Request { to: Address::Resolved(one.destination()), ..request("greet", sender) };
    let key = request.key();
    return_undelivered(&node.router, [Delivery::Request(Box::new(request)), Delivery::Cancel(key)]);
    let answer = answers.recv().await.unwrap();
    let RequestEvent::Answer(Answer::Failed(failure)) = answer else { panic!("{answer:?}") };
    assert_eq!((failure.code, failure.ran), (Code::CANCELLED, Execution::NotStarted));
    assert!(world.members[0].open.values().all(|inbox| inbox.take_all().is_empty()));
}
