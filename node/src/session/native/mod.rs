//! Sessions of the native protocol.

mod names;
mod protocol;
mod requests;
mod state;

pub(crate) use state::NativeSession;
