//! The state of the service `limes.v1`.

use std::sync::Arc;

use super::reader::Reader;
use crate::presence::Presence;

/// The service.
pub(crate) struct Limes {
    pub(super) reader: Reader,
    /// This node's name.
    pub(super) name: String,
    /// Keeps the changes that watchers read.
    pub(super) presence: Arc<Presence>,
}

impl Limes {
    /// The service of the node with this name.
    pub(crate) fn new(reader: Reader, name: String, presence: Arc<Presence>) -> Self {
        Limes { reader, name, presence }
    }
}
