//! Ending sessions: an event takes the row out, and the node that holds the session closes it.

use limes_routing::{EdgeId, Event, ServiceId, Verdict};
use tonic::Status;

use super::Control;

impl Control {
    /// Ends an edge's session, wherever it is; the row is gone when this returns.
    ///
    /// # Errors
    /// `NOT_FOUND`, `PERMISSION_DENIED` or `UNAVAILABLE`; after the last it may still happen.
    pub(super) async fn kick_edge(&self, edge: EdgeId) -> Result<(), Status> {
        self.kick(Event::Kick { edge }).await
    }

    /// Ends all sessions of a service.
    ///
    /// # Errors
    /// As [`Control::kick_edge`].
    pub(super) async fn kick_service(&self, service: ServiceId) -> Result<(), Status> {
        self.kick(Event::KickService { service }).await
    }

    async fn kick(&self, event: Event) -> Result<(), Status> {
        if self.read_only {
            let text = "this control plane is read-only: it is reached beyond this machine without TLS";
            return Err(Status::permission_denied(text));
        }
        let replica = self.reader.consensus().replica();
        let replica = replica.ok_or_else(|| Status::unavailable("this node is still starting"))?;
        match replica.decide(event).await {
            // The reference says so of services too.
            Ok((_, Verdict::Rejected(_))) => Err(Status::not_found("edge not online")),
            Ok(_) => Ok(()),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }
}
