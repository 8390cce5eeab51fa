//! Changes of a service's names (PROTOCOL 2.8): decided one after the other, so that they keep their order and each is
//! counted before the next is compared with `limits.names`.

use limes_wire::Code;
use limes_wire::driver::Cx;
use limes_wire::frame::{Done, Frame, GoAway, Names, Role};

use super::state::NativeSession;
use crate::presence::registration::NameChange;
use crate::session::core::NAME_CHANGES_MAX;

/// Queues a change that the peer requests.
pub(super) fn request(session: &mut NativeSession, change: NameChange, names: Names, cx: &mut Cx) {
    // PROTOCOL 9.1.
    if session.core.role != Role::Service {
        session.close(GoAway::new(Code::PROTOCOL, "only services register and subscribe"), cx);
        return;
    }
    let queue = &mut session.protocol.name_changes;
    if queue.len() >= NAME_CHANGES_MAX {
        let text = "too many undecided requests to register".to_owned();
        cx.send(Frame::Done(Done { id: names.id, code: Code::BUSY, text }));
        return;
    }
    queue.push_back((change, names));
    if queue.len() == 1 {
        propose_first(session);
    }
}

/// Answers the first change, which is decided, and proposes the next.
pub(super) fn decided(session: &mut NativeSession, id: u64, code: Code, text: String, cx: &mut Cx) {
    session.protocol.name_changes.pop_front();
    cx.send(Frame::Done(Done { id, code, text }));
    propose_first(session);
}

fn propose_first(session: &mut NativeSession) {
    let Some((change, names)) = session.protocol.name_changes.front_mut() else { return };
    let (change, id, names) = (*change, names.id, std::mem::take(&mut names.names));
    session.core.change_names(change, id, names);
}
