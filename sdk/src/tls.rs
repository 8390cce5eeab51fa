//! TLS settings of a client.

use std::path::Path;

use limes_wire::transport::tls::{Identity, Roots, TlsClient};

pub use limes_wire::transport::tls::TlsError;

/// Which certificates a client trusts, and which one it presents; for
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
    /// Trusts the system's root certificates, and presents no certificate.
    pub fn new() -> Self {
        Tls::default()
    }

    /// Trusts the root certificates of this PEM file instead of the system's.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub fn root_file(mut self, file: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.roots.get_or_insert_default().add_file(file.as_ref())?;
        Ok(self)
    }

    /// Trusts the root certificates of this PEM text instead of the system's.
    ///
    /// # Errors
    /// The text holds something other than certificates.
    pub fn root_pem(mut self, pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        self.roots.get_or_insert_default().add_pem(pem.as_ref())?;
        Ok(self)
    }

    /// Presents the certificate of these PEM files if the gateway asks for one.
    ///
    /// # Errors
    /// A file cannot be read, or holds no certificate or no key.
    pub fn identity_files(mut self, cert: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        self.identity = Some(Identity::from_files(cert.as_ref(), key.as_ref())?);
        Ok(self)
    }

    /// Presents the certificate of this PEM text if the gateway asks for one.
    ///
    /// # Errors
    /// A text holds no certificate or no key.
    pub fn identity_pem(mut self, cert: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        self.identity = Some(Identity::from_pem(cert.as_ref(), key.as_ref())?);
        Ok(self)
    }

    /// Requires the gateway's certificate to be for this name instead of the dialled host.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The connector with these settings.
    pub(crate) fn client(&self) -> Result<TlsClient, TlsError> {
        TlsClient::new(self.roots.clone(), self.identity.clone(), self.name.as_deref())
    }
}
