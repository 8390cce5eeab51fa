//! TLS of listeners and of the bypass, under the reference's keys.

use std::path::{Path, PathBuf};

use limes_wire::transport::tls::{Identity, Roots, TlsClient, TlsError, TlsServer};
use serde_norway::Value;

use super::setting::{Leaf, Settings, Visitor, entries, quoted, scalar};
use super::value_error::ValueError;

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Whether the port speaks TLS only.
    pub enable: bool,
    /// Whether clients must present a certificate.
    pub mtls: bool,
    /// PEM files of the authorities that sign the clients' certificates.
    pub ca_certs: Vec<PathBuf>,
    /// The port's own certificates, selected by the name in the client's SNI extension.
    pub certs: Vec<CertPair>,
}

/// A certificate with its chain, and its key: two PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertPair {
    /// The certificate, followed by its chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Tls {
    /// Reads the files; `None` if TLS is off.
    ///
    /// # Errors
    /// A file cannot be read, holds no PEM of its kind, or does not match the others.
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

    /// Resolves relative paths against this folder.
    pub(super) fn anchor(&mut self, folder: &Path) {
        anchor(folder, &mut self.ca_certs, &mut self.certs);
    }
}

/// TLS of connections that a node opens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DialTls {
    /// Whether the server speaks TLS.
    pub enable: bool,
    /// Whether the node presents a certificate.
    pub mtls: bool,
    /// PEM files of the authorities that sign the server's certificate; empty: the system's authorities.
    pub ca_certs: Vec<PathBuf>,
    /// The node's certificates; the first one is presented.
    pub certs: Vec<CertPair>,
    /// Whether any certificate of the server is accepted.
    pub insecure_skip_verify: bool,
}

impl DialTls {
    /// Reads the files; `None` if TLS is off.
    ///
    /// # Errors
    /// A file cannot be read, holds no PEM of its kind, or does not match the others.
    pub(crate) fn client(&self) -> Result<Option<TlsClient>, TlsError> {
        if !self.enable {
            return Ok(None);
        }
        let mut roots = Roots::new();
        self.ca_certs.iter().try_for_each(|file| roots.add_file(file))?;
        let presented = self.certs.first().filter(|_| self.mtls);
        let identity = presented.map(|pair| Identity::from_files(&pair.cert, &pair.key)).transpose()?;
        TlsClient::foreign(roots, identity, !self.insecure_skip_verify).map(Some)
    }

    /// Resolves relative paths against this folder.
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
        v.leaf("enable", "Whether that gateway speaks TLS.", &mut self.enable);
        v.leaf("mtls", "Whether this node presents a certificate.", &mut self.mtls);
        v.leaf(
            "ca_certs",
            "PEM files of the trusted authorities; empty: those of the system.",
            &mut self.ca_certs,
        );
        v.leaf(
            "certs",
            "PEM files of this node's certificate: [{cert: a.pem, key: a.key}].",
            &mut self.certs,
        );
        v.leaf(
            "insecure_skip_verify",
            "Whether any certificate is accepted.",
            &mut self.insecure_skip_verify,
        );
    }
}

impl Settings for Tls {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf("enable", "Whether this port speaks TLS only.", &mut self.enable);
        v.leaf(
            "mtls",
            "Whether clients must present a certificate that one of ca_certs has signed.",
            &mut self.mtls,
        );
        v.leaf("ca_certs", "PEM files of those authorities: [ca.pem, ...].", &mut self.ca_certs);
        v.leaf(
            "certs",
            "PEM files of this port's certificates, selected by the name that a client asks for (SNI), else the first: \
             [{cert: a.pem, key: a.key}, ...]. Relative to the folder of this file.",
            &mut self.certs,
        );
        v.ignored("insecure_skip_verify", "it has an effect only where a node dials");
    }
}

/// In the environment: `a.pem,b.pem`.
impl Leaf for Vec<PathBuf> {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        Ok(entries(text).map(PathBuf::from).collect())
    }

    fn from_yaml(value: &Value) -> Result<Self, ValueError> {
        match value {
            Value::Sequence(entries) => {
                entries.iter().map(|entry| scalar(entry).and_then(|text| PathBuf::from_text(&text))).collect()
            }
            Value::Null => Ok(Vec::new()),
            _ => Err(ValueError::Kind { found: "is not a list", wanted: "write [ca.pem, ...]" }),
        }
    }

    fn to_yaml(&self) -> String {
        let entries: Vec<String> = self.iter().map(|path| quoted(&path.to_string_lossy())).collect();
        format!("[{}]", entries.join(", "))
    }
}

/// In the environment: `a.pem=a.key,b.pem=b.key`.
impl Leaf for Vec<CertPair> {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        let pair = |entry: &str| {
            let parts = entry.split_once('=');
            let (cert, key) = parts.ok_or_else(|| ValueError::syntax(entry, "certificate=key"))?;
            Ok(CertPair { cert: PathBuf::from_text(cert)?, key: PathBuf::from_text(key)? })
        };
        entries(text).map(pair).collect()
    }

    fn from_yaml(value: &Value) -> Result<Self, ValueError> {
        match value {
            Value::Sequence(entries) => entries.iter().map(pair).collect(),
            Value::Null => Ok(Vec::new()),
            _ => Err(ValueError::Kind {
                found: "is not a list",
                wanted: "write [{cert: a.pem, key: a.key}, ...]",
            }),
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

fn pair(value: &Value) -> Result<CertPair, ValueError> {
    let block = value.as_mapping().ok_or(ValueError::Entry { form: "{cert, key}" })?;
    let part = |key: &'static str| {
        let value = block.get(key).ok_or(ValueError::MissingKey { key })?;
        scalar(value).and_then(|text| PathBuf::from_text(&text)).map_err(|error| error.in_field(key))
    };
    if let Some(key) = block.keys().filter_map(Value::as_str).find(|key| !["cert", "key"].contains(key)) {
        return Err(ValueError::UnknownKey { key: key.to_owned(), known: "cert, key" });
    }
    Ok(CertPair { cert: part("cert")?, key: part("key")? })
}
