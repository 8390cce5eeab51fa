//! Who is told about each change of the tables.

use limes_routing::{Batch, Effect, NodeId, Revision, Tables, Verdict};

/// Told of every applied batch, in order, by the task that applies. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// Which member this is, and the boot nonce of this process; told once, before anything is
    /// applied.
    fn identified(&self, node: NodeId, cluster: [u8; 16], boot: [u8; 16]);

    /// A batch has been applied; `tables` are those after it.
    fn applied(
        &self,
        revision: Revision,
        batch: &Batch,
        verdicts: &[Verdict],
        effects: &[Effect],
        tables: &Tables,
    );

    /// The tables have jumped (a snapshot was installed, or loaded at the start); `effects` are the
    /// difference.
    fn installed(&self, effects: &[Effect], tables: &Tables);
}
