//! Snapshots: the tables in one explicit encoding, as chunks that can be sent one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::codec::{DecodeError, Field, slice};
use crate::event::LEVEL;
use crate::id::{EdgeId, Home};
use crate::rows::{EdgeRow, Member, PendingCallback, ServiceRow};
use crate::sessions::Sessions;
use crate::shards::Edges;
use crate::tables::Tables;

/// The first bytes of a snapshot.
const MAGIC: &[u8; 16] = b"limes-tables-001";
/// The version of the encoding that is written. Version 1 is still read; it has no times at which sessions began.
const VERSION: u8 = 2;
/// Size at which a chunk is complete, in bytes.
const CHUNK: usize = 256 << 10;

impl Tables {
    /// The tables as bytes, in chunks to be concatenated. Contains ticket keys: secret.
    ///
    /// The bytes depend on the contents of the tables alone: two nodes at one revision agree.
    pub fn encode_snapshot(&self) -> Vec<Bytes> {
        let mut out = Chunks { done: Vec::new(), open: BytesMut::with_capacity(CHUNK + 4_096) };
        self.put_head(&mut out.open);
        (self.pending_callbacks.len() as u64).put(&mut out.open);
        for callback in self.pending_callbacks.values() {
            callback.put(&mut out.open);
            out.close_if_full();
        }
        (self.services.len() as u64).put(&mut out.open);
        for (_, row) in self.services.iter() {
            row.put(&mut out.open);
            out.close_if_full();
        }
        (self.edges.len() as u64).put(&mut out.open);
        for (edge, row) in self.edges.iter() {
            put_edge(edge, &row, &mut out.open);
            out.close_if_full();
        }
        out.done.push(out.open.freeze());
        out.done
    }

    /// Everything but the rows of callbacks, services and edges, of which there may be many.
    fn put_head(&self, out: &mut BytesMut) {
        MAGIC.put(out);
        VERSION.put(out);
        self.revision.put(out);
        self.cluster.put(out);
        (self.members.len() as u32).put(out);
        self.members.values().for_each(|member| member.put(out));
        (self.nodes.len() as u32).put(out);
        for (node, row) in &self.nodes {
            node.put(out);
            row.put(out);
        }
        self.next_edge.put(out);
        self.next_service.put(out);
        (self.settings.len() as u32).put(out);
        for (key, value) in &self.settings {
            key.put(out);
            value.put(out);
        }
        (self.admitting.len() as u32).put(out);
        for (edge, home) in self.admitting() {
            edge.put(out);
            home.put(out);
        }
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// The bytes are damaged, or written by newer software.
    pub fn decode_snapshot(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let from = &mut bytes;
        let (mut tables, version) = Tables::get_head(from)?;
        let mut callbacks = BTreeMap::new();
        for _ in 0..u64::get(from)? {
            let row = PendingCallback::get(from)?;
            callbacks.insert((row.edge, row.incarnation), row);
        }
        tables.pending_callbacks = Arc::new(callbacks);
        let mut services = Sessions::default();
        for _ in 0..u64::get(from)? {
            services.insert(get_service(from, version)?);
        }
        tables.services = Arc::new(services);
        for _ in 0..u64::get(from)? {
            get_edge(from, version, &mut tables.edges)?;
        }
        if bytes.is_empty() { Ok(tables) } else { Err(DecodeError::Trailing(bytes.len())) }
    }

    fn get_head(from: &mut Bytes) -> Result<(Self, u8), DecodeError> {
        if <[u8; 16]>::get(from)? != *MAGIC {
            return Err(DecodeError::Unknown("snapshot format", 0));
        }
        let version = u8::get(from)?;
        if !(1..=VERSION).contains(&version) {
            return Err(DecodeError::Unknown("snapshot version", version.into()));
        }
        let mut tables = Tables::new();
        tables.revision = Field::get(from)?;
        tables.cluster = Field::get(from)?;
        if let Some(level) = tables.cluster.as_ref().map(|cluster| cluster.level).filter(|l| *l > LEVEL) {
            return Err(DecodeError::Unknown("cluster level", level));
        }
        tables.members = Vec::<Member>::get(from)?.into_iter().map(|m| (m.node, m)).collect();
        for _ in 0..u32::get(from)? {
            tables.nodes.insert(Field::get(from)?, Field::get(from)?);
        }
        tables.next_edge = Field::get(from)?;
        tables.next_service = Field::get(from)?;
        for _ in 0..u32::get(from)? {
            tables.settings.insert(Field::get(from)?, Field::get(from)?);
        }
        let mut admitting = BTreeMap::new();
        for _ in 0..u32::get(from)? {
            let (edge, home) = (EdgeId::get(from)?, Home::get(from)?);
            admitting.insert((edge, home.node, home.session), home);
        }
        tables.admitting = Arc::new(admitting);
        Ok((tables, version))
    }
}

/// Complete chunks, and the one that is being written.
struct Chunks {
    done: Vec<Bytes>,
    open: BytesMut,
}

impl Chunks {
    fn close_if_full(&mut self) {
        if self.open.len() >= CHUNK {
            self.done.push(self.open.split().freeze());
            self.open.reserve(CHUNK + 4_096);
        }
    }
}

fn put_edge(edge: EdgeId, row: &EdgeRow<'_>, out: &mut BytesMut) {
    edge.put(out);
    row.home.put(out);
    (row.meta.len() as u32).put(out);
    out.extend_from_slice(row.meta);
    (row.addr.len() as u32).put(out);
    out.extend_from_slice(row.addr.as_bytes());
    row.born_ms.put(out);
    row.offline_callback.put(out);
}

fn get_service(from: &mut Bytes, version: u8) -> Result<ServiceRow, DecodeError> {
    if version > 1 {
        return ServiceRow::get(from);
    }
    Ok(ServiceRow {
        service: Field::get(from)?,
        home: Field::get(from)?,
        name: Field::get(from)?,
        instance: Field::get(from)?,
        meta: Field::get(from)?,
        addr: Field::get(from)?,
        born_ms: 0,
        methods: Field::get(from)?,
        topics: Field::get(from)?,
    })
}

fn get_edge(from: &mut Bytes, version: u8, edges: &mut Edges) -> Result<(), DecodeError> {
    let (edge, home) = (EdgeId::get(from)?, Home::get(from)?);
    let (meta, addr) = (slice(from)?, slice(from)?);
    let addr = std::str::from_utf8(&addr).map_err(|_| DecodeError::NotText)?;
    let born_ms = if version > 1 { u64::get(from)? } else { 0 };
    let offline_callback = bool::get(from)?;
    edges.insert(edge, &EdgeRow { home, meta: &meta, addr, born_ms, offline_callback });
    Ok(())
}
