//! Messages keep their order while the first is being resolved.

use super::*;
use crate::router::message::Freshness;
use crate::router::resolve::{dispatch, resolve_again};

#[tokio::test]
async fn message_that_is_being_resolved_is_not_overtaken() {
    let mut world = World::new(1);
    world.connect(0, EdgeId(1), false);
    world.catch_up(0);
    let node = world.members[0].node.router.clone();
    let home = world.tables.edge(EdgeId(1)).unwrap().home;
    let inbox = world.members[0].open[&home.session.0].clone();
    let (sender, _answers) = mpsc::unbounded_channel();
    let message = |id, topic| {
        let request = request(topic, sender.clone());
        Box::new(Request { kind: Kind::Message, id, to: Address::edge(1), ..request })
    };
    // Its task has not run yet.
    resolve_again(&node, message(1, "topic"), Freshness::AtLeast(Revision(99)));
    assert!(dispatch(&node, message(2, "topic")).is_none(), "the second waits behind the first");
    assert!(dispatch(&node, message(3, "other")).is_some(), "another topic has an order of its own");
    let mut order = Vec::new();
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
        for message in inbox.take_all() {
            let Some(Delivery::Request(request)) = message.into_delivery() else { panic!("no request") };
            order.push(request.id);
        }
    }
    assert_eq!(order, [3, 1, 2]);
}
