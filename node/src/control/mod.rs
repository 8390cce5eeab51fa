//! `limes.v1`: what operators see of the cluster, on the control port of any node.

mod calls;
mod rows;
mod watch;

use crate::compat::Reader;

/// The service.
pub(crate) struct Limes {
    reader: Reader,
}

impl Limes {
    pub(crate) fn new(reader: Reader) -> Self {
        Limes { reader }
    }
}
