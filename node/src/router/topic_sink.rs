//! Sinks: what takes the messages of a topic.
//!
//! The service index is the first sink ([`super::select::ServiceTopics`]). A bridge to a message queue is
//! another. To add one:
//!
//! 1. Give it a task that reads a mailbox of [`BridgeMessage`](super::message::BridgeMessage)s, spawned by the
//!    server as a critical task (`tasks.rs`, `server/run.rs`). The task publishes each
//!    [`Delivery::Request`](super::message::Delivery::Request), and ends it with `request.origin.answer(request.id,
//!    Answer::Done)` once the queue has acknowledged the message, or with `request.fail(..)`. A failure after the
//!    message may have been published is [`Failure::may_have_run`](super::message::Failure::may_have_run). A
//!    `Delivery::Cancel` names a request whose sender waits no longer.
//! 2. Implement [`TopicSink`] for the sending side: a route with
//!    [`Receiver::Bridge`](super::message::Receiver::Bridge) for the topics that it takes.
//! 3. Add it to the sinks of [`RouterParts`](super::context::RouterParts) where the server builds the components.
//! 4. Add its settings to `config/`.
//!
//! The mailbox is bounded: a queue that does not keep up makes senders fail with `BUSY` instead of using memory.

use super::message::Request;
use super::route::Resolution;

/// Takes the messages of some topics.
pub(crate) trait TopicSink: Send + Sync {
    /// Names the sink in logs.
    fn name(&self) -> &str;

    /// Selects the receiver of a message among those that this sink has for its topic now. Never waits.
    ///
    /// [`Resolution::Absent`]: it takes no messages of this topic. [`Resolution::Unreachable`]: it does, but
    /// not now; the router tries again for a short while.
    fn resolve(&self, message: &Request) -> Resolution;
}

/// The first sink of a list with a route for a message; without one, the first result other than
/// [`Resolution::Absent`].
pub(super) fn first_route<'a>(
    mut found: Resolution,
    others: impl IntoIterator<Item = &'a dyn TopicSink>,
    message: &Request,
) -> Resolution {
    for sink in others {
        if matches!(found, Resolution::Routed(_)) {
            break;
        }
        match sink.resolve(message) {
            Resolution::Absent => {}
            route @ Resolution::Routed(_) => {
                tracing::trace!(sink = sink.name(), topic = &*message.name, "routed to a bridge");
                found = route;
            }
            other if matches!(found, Resolution::Absent) => found = other,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use limes_wire::Str;
    use limes_wire::driver::Mailbox;
    use tokio::sync::mpsc;

    use super::super::message::{
        Address, Answer, BridgeHandle, BridgeMessage, Delivery, Kind, Origin, Receiver, RequestEvent,
    };
    use super::super::route::Route;
    use super::super::task_handle::Message as _;
    use super::*;

    /// A bridge that takes one topic.
    struct Bridge(&'static str, BridgeHandle);

    impl TopicSink for Bridge {
        fn name(&self) -> &str {
            "test"
        }

        fn resolve(&self, message: &Request) -> Resolution {
            if *message.name != *self.0 {
                return Resolution::Absent;
            }
            let receiver = Receiver::Bridge(self.1.clone());
            Resolution::Routed(Route { node: None, receiver, destination: None })
        }
    }

    fn message(topic: &'static str) -> (Request, mpsc::UnboundedReceiver<RequestEvent>) {
        let (sender, events) = mpsc::unbounded_channel();
        let request = Request {
            kind: Kind::Message,
            origin: Origin::Node(sender),
            id: 1,
            to: Address::service(),
            caller: 5,
            key: 5,
            deadline: Instant::now() + Duration::from_secs(60),
            name: Str::from_static(topic),
            custom: Bytes::new(),
            body: Bytes::new(),
            patient: false,
            tried: None,
        };
        (request, events)
    }

    #[test]
    fn bridge_gets_messages_of_its_topic_and_acknowledges_them_to_the_origin() {
        let mailbox = Mailbox::new();
        let bridge = Bridge("topic", BridgeHandle::new(mailbox.clone()));
        let (request, mut events) = message("topic");
        let found = first_route(Resolution::Absent, [&bridge as &dyn TopicSink], &request);
        let Resolution::Routed(route) = found else { unreachable!("{found:?}") };
        assert!(route.receiver.try_deliver(Box::new(request)).is_ok());
        let taken = mailbox.take_all().pop_front().and_then(BridgeMessage::into_delivery);
        let Some(Delivery::Request(taken)) = taken else { unreachable!("{taken:?}") };
        taken.origin.answer(taken.id, Answer::Done);
        assert!(matches!(events.try_recv(), Ok(RequestEvent::Answer(Answer::Done))));
    }

    #[test]
    fn sink_of_another_topic_is_passed_over() {
        let bridge = Bridge("topic", BridgeHandle::new(Mailbox::new()));
        let (request, _events) = message("other");
        let found = first_route(Resolution::Absent, [&bridge as &dyn TopicSink], &request);
        assert!(matches!(found, Resolution::Absent), "{found:?}");
    }

    #[test]
    fn route_of_an_earlier_sink_is_kept() {
        let (first, second) = (Mailbox::new(), Mailbox::new());
        let bridges = [&first, &second].map(|mailbox| Bridge("topic", BridgeHandle::new(mailbox.clone())));
        let (request, _events) = message("topic");
        let sinks = bridges.iter().map(|bridge| bridge as &dyn TopicSink);
        let Resolution::Routed(route) = first_route(Resolution::Unreachable, sinks, &request) else {
            unreachable!("both take the topic")
        };
        assert!(route.receiver.try_deliver(Box::new(request)).is_ok());
        assert_eq!((first.take_all().len(), second.take_all().len()), (1, 0));
    }
}
