//! `limes.v1`: what operators see of the cluster, on the control port of any node.

mod calls;
pub(crate) mod reader;
mod rows;
mod watch;

use crate::control::reader::Reader;

/// The service.
pub(crate) struct Limes {
    reader: Reader,
}

impl Limes {
    pub(crate) fn new(reader: Reader) -> Self {
        Limes { reader }
    }
}
