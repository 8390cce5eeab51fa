//! TLS toward the cluster.

use std::path::Path;

use limes_wire::transport::tls::{Identity, Roots, TlsClient};

pub use limes_wire::transport::tls::TlsError;

/// Whom a client believes under TLS, and what it shows: given to
/// [`EdgeBuilder::tls`](crate::EdgeBuilder::tls) or [`ServiceBuilder::tls`](crate::ServiceBuilder::tls).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = limes_sdk::Tls::new().root_file("ca.pem")?.identity_files("edge.pem", "edge.key")?;
/// let edge = limes_sdk::Edge::builder().address("gate.example:30012").tls(tls).connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Tls {
    roots: Option<Roots>,
    identity: Option<Identity>,
    name: Option<String>,
}

impl Tls {
    /// Believes what the system believes, and shows nothing.
    pub fn new() -> Self {
        Tls::default()
    }

    /// Believes the certificates of this PEM file, and no longer the system's.
    ///
    /// # Errors
    /// The file cannot be read, or holds none.
    pub fn root_file(mut self, file: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.roots.get_or_insert_default().add_file(file.as_ref())?;
        Ok(self)
    }

    /// Believes the certificates of this PEM text, and no longer the system's.
    ///
    /// # Errors
    /// There is something else in it.
    pub fn root_pem(mut self, pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        self.roots.get_or_insert_default().add_pem(pem.as_ref())?;
        Ok(self)
    }

    /// Shows the certificate of these PEM files where the gateway asks for one.
    ///
    /// # Errors
    /// A file cannot be read, or holds nothing of the kind.
    pub fn identity_files(mut self, cert: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.identity = Some(Identity::from_files(cert.as_ref(), key.as_ref())?);
        Ok(self)
    }

    /// Shows the certificate of this PEM text where the gateway asks for one.
    ///
    /// # Errors
    /// There is nothing of the kind in it.
    pub fn identity_pem(mut self, cert: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        self.identity = Some(Identity::from_pem(cert.as_ref(), key.as_ref())?);
        Ok(self)
    }

    /// Wants a certificate for this name, whatever host is dialled.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What dials with it.
    pub(crate) fn client(&self) -> Result<TlsClient, TlsError> {
        TlsClient::new(self.roots.clone(), self.identity.clone(), self.name.as_deref())
    }
}
