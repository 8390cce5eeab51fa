#![doc = include_str!("../PROTOCOL.md")]

pub mod callback;
mod close;
mod code;
pub mod codec;
pub mod conn;
#[cfg(feature = "tokio")]
pub mod driver;
pub mod frame;
pub mod geminio;
pub mod limits;
mod staged;
pub mod stream;
mod text;
#[cfg(feature = "tokio")]
pub mod transport;

pub use close::{By, CloseReason};
pub use code::Code;
pub use conn::{Conn, Event};
pub use text::Str;
