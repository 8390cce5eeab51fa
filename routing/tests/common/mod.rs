//! Helpers that the tests of the tables share.
#![allow(dead_code, reason = "each test takes what it needs")]

pub(crate) mod follower;
pub(crate) mod history;
pub(crate) mod naive;

use bytes::Bytes;
use limes_routing::Tables;

/// The snapshot in one piece.
pub(crate) fn snapshot(tables: &Tables) -> Bytes {
    tables.encode_snapshot().concat().into()
}

/// Encodes and decodes, and asserts equality.
pub(crate) fn reload(tables: &Tables) -> Tables {
    let bytes = snapshot(tables);
    let loaded = Tables::decode_snapshot(bytes.clone()).expect("own snapshot");
    assert_eq!(&loaded, tables, "the loaded tables differ");
    assert_eq!(snapshot(&loaded), bytes, "the loaded tables encode otherwise");
    loaded
}
