//! Sessions of the reference's protocol (geminio).
//!
//! [`calls`] translates calls and messages, [`stream_events`] and [`stream_task`] streams, [`texts`] errors. The other
//! tasks of the node do not know which protocol the peer of a session speaks.

mod callback;
mod calls;
mod held_calls;
mod hello;
mod pending_requests;
mod protocol;
mod readiness;
mod state;
mod stream_events;
mod stream_task;
mod streams;
mod texts;
mod tunnel;

#[cfg(test)]
mod tests;

pub(crate) use state::GeminioSession;
