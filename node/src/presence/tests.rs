//! What nodes do with effects, over random histories in which each applies the log at its own pace.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod check;
mod grace;
mod links;
mod order;
mod resumes;
mod takeovers;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_routing::{EdgeId, Event, NodeId, Reason, Revision, ServiceId, Verdict};
use limes_wire::driver::Mailbox;
use limes_wire::frame::Execution;
use limes_wire::{Code, Str};
use tokio::sync::mpsc;

use super::{orphans, resume};
use crate::router::edge_routes::EdgeLocation;
use crate::router::message::{
    Address, Answer, Delivery, Destination, Kind, Message, NativeMessage, Origin, Receiver, Request,
    RequestEvent, SessionCommand,
};
use crate::router::resolve::{find_local, newer_revision, resolve_edge, return_undelivered};
use crate::router::route::Resolution;
use crate::server::assemble::Components;
use world::{World, is_same, up};

#[test]
fn routes_and_sessions_of_each_node_match_the_tables() {
    let (mut moved, mut refused) = (0, 0);
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..120 {
            world.step();
        }
        world.settle();
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.check()));
        assert!(checked.is_ok(), "seed {seed}");
        moved += world.takeovers.len();
        refused += world
            .log
            .iter()
            .flat_map(|entry| &entry.verdicts)
            .filter(|v| matches!(v, Verdict::Rejected(_)))
            .count();
    }
    // The histories must have exercised both.
    assert!(moved > 400 && refused > 400, "{moved} takeovers, {refused} refusals");
}

fn request(method: &'static str, answers: mpsc::UnboundedSender<RequestEvent>) -> Request {
    Request {
        kind: Kind::Call,
        origin: Origin::Node(answers),
        id: 7,
        to: Address::service(),
        caller: 5,
        key: 0,
        deadline: Instant::now() + Duration::from_secs(60),
        name: Str::from_static(method),
        custom: Bytes::new(),
        body: Bytes::new(),
        patient: false,
        tried: None,
    }
}

/// A request that a session has not read when it ends is redirected once; it has not run.
#[tokio::test]
async fn unread_request_is_redirected_once_and_then_fails() {
    let mut world = World::new(1);
    world.serve(0, ServiceId(1));
    world.serve(0, ServiceId(2));
    world.catch_up(0);
    let node = world.members[0].node.clone();
    let index = node.presence.services.load();
    let (one, two) = (index.method("greet")[0], index.method("greet")[1]);
    let (sender, mut answers) = mpsc::unbounded_channel();
    let request = Request { to: Address::Resolved(one.destination()), ..request("greet", sender) };
    return_undelivered(&node.router, [Delivery::Request(Box::new(request))]);
    let mut polls = 0;
    let redirected = loop {
        polls += 1;
        assert!(polls < 10_000, "the request was not redirected");
        match world.members[0].open[&two.session.0].take_all().pop_front() {
            Some(NativeMessage::Delivery(Delivery::Request(request))) => break request,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(
        (redirected.to, redirected.tried),
        (Address::Resolved(two.destination()), Some(one.destination()))
    );
    return_undelivered(&node.router, [Delivery::Request(redirected)]);
    let routed = answers.recv().await.unwrap();
    assert!(
        matches!(&routed, RequestEvent::Routed(Receiver::Session(to)) if is_same(&world.members[0].open[&two.session.0], to))
    );
    let answer = answers.recv().await.unwrap();
    let RequestEvent::Answer(Answer::Failed(failure)) = answer else { panic!("{answer:?}") };
    assert_eq!((failure.code, failure.ran), (Code::GONE, Execution::NotStarted));
}

/// A service that has missed a keepalive is selected only if there is no other.
#[test]
fn silent_services_are_selected_only_if_there_is_no_other() {
    let mut world = World::new(1);
    world.serve(0, ServiceId(1));
    world.serve(0, ServiceId(2));
    world.catch_up(0);
    let node = world.members[0].node.clone();
    let index = node.presence.services.load();
    let pick = |key, tried| match node.router.select(index.method("greet"), key, tried) {
        Resolution::Routed(route) => route.destination,
        _ => None,
    };
    let picked = |key| pick(key, None);
    let (one, two) = (index.method("greet")[0], index.method("greet")[1]);
    assert_eq!((picked(0), picked(1)), (Some(one.destination()), Some(two.destination())));
    node.sessions.set_silent(one.session.0, true);
    assert_eq!((picked(0), picked(1)), (Some(two.destination()), Some(two.destination())));
    node.sessions.set_silent(two.session.0, true);
    assert_eq!(
        (picked(0), picked(1)),
        (Some(one.destination()), Some(two.destination())),
        "a silent service is better than none"
    );
    assert_eq!(
        pick(0, Some(one.destination())),
        Some(two.destination()),
        "the session that was tried is not selected again"
    );
}
