//! Deliveries that wait for their session to be admitted.

use limes_wire::Code;

use crate::router::message::{Delivery, Failure, Key};

/// Deliveries that may wait for one session.
const EARLY_MAX: usize = 1_024;

/// Deliveries that arrived before the session was admitted, in their order.
#[derive(Debug, Default)]
pub(crate) struct EarlyDeliveries(Vec<Delivery>);

impl EarlyDeliveries {
    /// Keeps a request or a stream until the session is admitted; refuses it if too many wait.
    pub(crate) fn push(&mut self, delivery: Delivery) {
        if self.0.len() < EARLY_MAX {
            self.0.push(delivery);
            return;
        }
        match delivery {
            Delivery::Request(request) => {
                request.fail(Failure::not_run(Code::BUSY, "the session is still being admitted"));
            }
            Delivery::Open(reply) => {
                let _ = reply.send(Err(Code::GONE));
            }
            Delivery::Routed(..) | Delivery::Answer(..) | Delivery::Cancel(_) => {}
        }
    }

    /// Ends a request that waits here and whose caller has cancelled it; false: it is not here.
    pub(crate) fn cancel(&mut self, key: Key) -> bool {
        let is_it = |d: &Delivery| matches!(d, Delivery::Request(request) if request.key() == key);
        let at = self.0.iter().position(is_it);
        if let Some(Delivery::Request(request)) = at.map(|at| self.0.remove(at)) {
            request.fail_cancelled();
            return true;
        }
        false
    }

    /// Takes everything that waits.
    pub(crate) fn take(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.0)
    }
}
