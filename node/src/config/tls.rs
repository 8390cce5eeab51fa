//! TLS of a listener, under the reference's keys.

use std::path::{Path, PathBuf};

use limes_wire::transport::tls::{Identity, Roots, TlsClient, TlsError, TlsServer};
use serde_norway::Value;

use super::setting::{Leaf, Settings, Visitor, quoted, scalar};

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Whether the port speaks TLS, and nothing else.
    pub enable: bool,
    /// Whether clients must show a certificate.
    pub mtls: bool,
    /// Who must have signed those.
    pub ca_certs: Vec<PathBuf>,
    /// The port's own certificates, chosen by the name that the client asks for.
    pub certs: Vec<CertPair>,
}

/// A certificate with its chain, and its key: two PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertPair {
    /// The certificate, its chain behind it.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Tls {
    /// Reads the files; nothing if TLS is off.
    ///
    /// # Errors
    /// A file is not there, holds no PEM of its kind, or does not fit the others.
    pub(crate) fn server(&self) -> Result<Option<TlsServer>, TlsError> {
        if !self.enable {
            return Ok(None);
        }
        let identities = self.certs.iter().map(|pair| Identity::from_files(&pair.cert, &pair.key));
        let identities = identities.collect::<Result<Vec<_>, _>>()?;
        let mut roots = Roots::new();
        self.ca_certs.iter().filter(|_| self.mtls).try_for_each(|file| roots.add_file(file))?;
        TlsServer::new(identities, self.mtls.then_some(roots)).map(Some)
    }

    /// Takes relative paths from this folder.
    pub(super) fn anchor(&mut self, folder: &Path) {
        anchor(folder, &mut self.ca_certs, &mut self.certs);
    }
}

/// TLS of connections that a node makes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DialTls {
    /// Whether the other side speaks TLS.
    pub enable: bool,
    /// Whether the node shows a certificate.
    pub mtls: bool,
    /// Who must have signed the other side's; empty: those whom the system believes.
    pub ca_certs: Vec<PathBuf>,
    /// The node's certificate; the first is shown.
    pub certs: Vec<CertPair>,
    /// Whether any certificate will do.
    pub insecure_skip_verify: bool,
}

impl DialTls {
    /// Reads the files; nothing if TLS is off.
    ///
    /// # Errors
    /// A file is not there, holds no PEM of its kind, or does not fit the others.
    pub(crate) fn client(&self) -> Result<Option<TlsClient>, TlsError> {
        if !self.enable {
            return Ok(None);
        }
        let mut roots = Roots::new();
        self.ca_certs.iter().try_for_each(|file| roots.add_file(file))?;
        let shown = self.certs.first().filter(|_| self.mtls);
        let identity = shown.map(|pair| Identity::from_files(&pair.cert, &pair.key)).transpose()?;
        TlsClient::foreign(roots, identity, !self.insecure_skip_verify).map(Some)
    }

    /// Takes relative paths from this folder.
    pub(super) fn anchor(&mut self, folder: &Path) {
        anchor(folder, &mut self.ca_certs, &mut self.certs);
    }
}

fn anchor(folder: &Path, ca_certs: &mut [PathBuf], certs: &mut [CertPair]) {
    for file in ca_certs {
        *file = folder.join(&*file);
    }
    for pair in certs {
        pair.cert = folder.join(&pair.cert);
        pair.key = folder.join(&pair.key);
    }
}

impl Settings for DialTls {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("enable", "Whether it speaks TLS.", &mut self.enable);
        v.leaf("mtls", "Whether this node shows a certificate.", &mut self.mtls);
        v.leaf("ca_certs", "PEM files of whom to believe; empty: as the system does.", &mut self.ca_certs);
        v.leaf(
            "certs",
            "PEM files of this node's certificate: [{cert: a.pem, key: a.key}].",
            &mut self.certs,
        );
        v.leaf("insecure_skip_verify", "Whether any certificate will do.", &mut self.insecure_skip_verify);
    }
}

impl Settings for Tls {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("enable", "Whether this port speaks TLS, and nothing else.", &mut self.enable);
        v.leaf(
            "mtls",
            "Whether clients must show a certificate that one of ca_certs has signed.",
            &mut self.mtls,
        );
        v.leaf("ca_certs", "PEM files of those authorities: [ca.pem, ...].", &mut self.ca_certs);
        v.leaf(
            "certs",
            "PEM files of this port's certificates, chosen by the name that a client asks for (SNI), else the first: \
             [{cert: a.pem, key: a.key}, ...]. Relative to the folder of this file.",
            &mut self.certs,
        );
        v.ignored("insecure_skip_verify", "it means something where a node dials only");
    }
}

/// In the environment: `a.pem,b.pem`.
impl Leaf for Vec<PathBuf> {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(PathBuf::from).collect())
    }

    fn from_yaml(value: &Value) -> Result<Self, String> {
        match value {
            Value::Sequence(entries) => {
                entries.iter().map(|entry| scalar(entry).and_then(|text| PathBuf::from_text(&text))).collect()
            }
            Value::Null => Ok(Vec::new()),
            _ => Err("is no list; write [ca.pem, ...]".into()),
        }
    }

    fn to_yaml(&self) -> String {
        let entries: Vec<String> = self.iter().map(|path| quoted(&path.to_string_lossy())).collect();
        format!("[{}]", entries.join(", "))
    }
}

/// In the environment: `a.pem=a.key,b.pem=b.key`.
impl Leaf for Vec<CertPair> {
    fn from_text(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries
            .map(|entry| {
                let (cert, key) =
                    entry.split_once('=').ok_or_else(|| format!("{entry:?} is not certificate=key"))?;
                Ok(CertPair { cert: PathBuf::from_text(cert)?, key: PathBuf::from_text(key)? })
            })
            .collect()
    }

    fn from_yaml(value: &Value) -> Result<Self, String> {
        match value {
            Value::Sequence(entries) => entries.iter().map(pair).collect(),
            Value::Null => Ok(Vec::new()),
            _ => Err("is no list; write [{cert: a.pem, key: a.key}, ...]".into()),
        }
    }

    fn to_yaml(&self) -> String {
        let path = |path: &Path| quoted(&path.to_string_lossy());
        let entries: Vec<String> = self
            .iter()
            .map(|pair| format!("{{cert: {}, key: {}}}", path(&pair.cert), path(&pair.key)))
            .collect();
        format!("[{}]", entries.join(", "))
    }
}

fn pair(value: &Value) -> Result<CertPair, String> {
    let block = value.as_mapping().ok_or("an entry is no {cert, key}")?;
    let part = |key: &str| {
        let value = block.get(key).ok_or_else(|| format!("an entry has no {key}"))?;
        scalar(value).and_then(|text| PathBuf::from_text(&text)).map_err(|why| format!("{key} {why}"))
    };
    if let Some(key) = block.keys().filter_map(Value::as_str).find(|key| !["cert", "key"].contains(key)) {
        return Err(format!("an entry has an unknown key {key:?}; cert and key are known"));
    }
    Ok(CertPair { cert: part("cert")?, key: part("key")? })
}
