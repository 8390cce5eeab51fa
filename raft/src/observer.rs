//! The interface to the part of the node that acts on changes of the tables.

use limes_routing::{Batch, Effect, NodeId, Revision, Tables, Verdict};

/// Receives every change of the tables, in order, on the task that applies entries. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// The identity of this member and the boot nonce of this process. Called once, before anything is
    /// applied.
    fn identified(&self, node: NodeId, cluster: [u8; 16], boot: [u8; 16]);

    /// A batch has been applied; `tables` are the tables after it.
    fn applied(
        &self,
        revision: Revision,
        batch: &Batch,
        verdicts: &[Verdict],
        effects: &[Effect],
        tables: &Tables,
    );

    /// A snapshot has replaced the tables, from the leader or at the start; `effects` are the difference.
    fn installed(&self, effects: &[Effect], tables: &Tables);
}
