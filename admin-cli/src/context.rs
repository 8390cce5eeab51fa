//! The options that all commands share.

/// Where a command asks, and how it prints.
pub(crate) struct Context {
    /// Control ports of nodes as `HOST:PORT`, tried in turn.
    pub(crate) endpoints: Vec<String>,
    /// Print JSON instead of tables.
    pub(crate) json: bool,
    /// Read the asked node's own copy, without a read barrier.
    pub(crate) local: bool,
}
