//! TLS over TCP (PROTOCOL 1.4), with rustls and its ring provider.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio::io::AsyncBufRead;
use tokio::net::TcpStream;
pub use tokio_rustls::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::interface::{PeerIdentity, Transport};

/// The name of the protocol in ALPN.
pub const ALPN: &[u8] = b"limes/1";

impl Transport for TlsStream<TcpStream> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.get_ref().0.peer_addr()
    }

    fn peer_identity(&self) -> Option<PeerIdentity<'_>> {
        self.get_ref().1.peer_certificates().and_then(PeerIdentity::new)
    }

    fn socket(&self) -> Option<&TcpStream> {
        Some(self.get_ref().0)
    }

    fn poll_peek(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let arrived = ready!(Pin::new(self).poll_fill_buf(cx))?;
        let len = arrived.len().min(buf.len());
        buf[..len].copy_from_slice(&arrived[..len]);
        Poll::Ready(Ok(len))
    }
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the expected kind.
    #[error("{}: {text}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        text: String,
    },
    /// A server has no certificate.
    #[error("no certificate is configured")]
    NoCertificate,
    /// There is no authority to verify the peer with.
    #[error("no root certificate is configured, and the system has none")]
    NoRoots,
    /// A server name that no certificate can have.
    #[error("{0:?} is not a valid server name")]
    Name(String),
    /// Another error of rustls.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

impl TlsError {
    fn file(path: &Path, error: impl fmt::Display) -> Self {
        TlsError::File { path: path.to_owned(), text: error.to_string() }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A certificate chain and its private key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads both from PEM files; the chain follows the certificate in its file.
    ///
    /// # Errors
    /// A file cannot be read, or holds no certificate or key.
    pub fn from_files(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(cert)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::file(key, error))?;
        Ok(Identity { chain, key })
    }

    /// Reads both from PEM text.
    ///
    /// # Errors
    /// The text holds no certificate or key.
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let given = Path::new("the given PEM");
        let chain = CertificateDer::pem_slice_iter(cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsError::file(given, error))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::file(given, error))?;
        Ok(Identity { chain, key })
    }

    fn certify(self) -> Result<CertifiedKey, TlsError> {
        if self.chain.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        Ok(CertifiedKey::from_der(self.chain, self.key, &provider())?)
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Identity { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsError::file(path, error))?;
    if found.is_empty() { Err(TlsError::file(path, "holds no certificate")) } else { Ok(found) }
}

/// The authorities that the peer's certificate is verified with.
#[derive(Debug, Clone)]
pub struct Roots(RootCertStore);

impl Default for Roots {
    fn default() -> Self {
        Roots::new()
    }
}

impl Roots {
    /// No authorities.
    pub fn new() -> Self {
        Roots(RootCertStore::empty())
    }

    /// Adds the certificates of a PEM file.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub fn add_file(&mut self, path: &Path) -> Result<(), TlsError> {
        for certificate in certificates(path)? {
            self.0.add(certificate).map_err(|error| TlsError::file(path, error))?;
        }
        Ok(())
    }

    /// Adds the certificates of a PEM text.
    ///
    /// # Errors
    /// The text is not a list of certificates.
    pub fn add_pem(&mut self, pem: &[u8]) -> Result<(), TlsError> {
        let given = Path::new("the given PEM");
        for certificate in CertificateDer::pem_slice_iter(pem) {
            self.0.add(certificate.map_err(|error| TlsError::file(given, error))?)?;
        }
        Ok(())
    }

    /// Whether there are no authorities.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The authorities of the system.
    fn system() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Roots(roots)
    }
}

/// Selects the first certificate that is valid for the requested name, else the first of all.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let good = |key: &&Arc<CertifiedKey>| {
            let parsed = key.cert.first().and_then(|cert| ParsedCertificate::try_from(cert).ok());
            name.as_ref()
                .zip(parsed.as_ref())
                .is_some_and(|(name, parsed)| verify_server_name(parsed, name).is_ok())
        };
        self.0.iter().find(good).or_else(|| self.0.first()).cloned()
    }
}

/// The accepting side's TLS; cheap to clone.
#[derive(Clone)]
pub struct TlsServer(TlsAcceptor);

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsServer")
    }
}

impl TlsServer {
    /// Serves these certificates, selected by the name that the client requests (SNI). With `clients`, a client must
    /// present a certificate that one of these authorities has signed.
    ///
    /// # Errors
    /// There is no certificate, or one that does not match its key.
    pub fn new(identities: Vec<Identity>, clients: Option<Roots>) -> Result<Self, TlsError> {
        let keys = identities.into_iter().map(|identity| identity.certify().map(Arc::new));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots.0), provider()).build();
                builder.with_client_cert_verifier(verifier.map_err(|_| TlsError::NoRoots)?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName(keys)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Reconnecting edges resume without a full handshake, and the node keeps no state for it.
        config.ticketer = ring::Ticketer::new()?;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        Ok(TlsServer(TlsAcceptor::from(Arc::new(config))))
    }

    /// Performs the handshake on an accepted socket. The caller bounds the time.
    ///
    /// # Errors
    /// The peer does not use TLS, or presents no valid certificate where one is required.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn accept(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        Ok(self.0.accept(socket).await?.into())
    }
}

/// Accepts any certificate whose key the peer has.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The dialling side's TLS; cheap to clone.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    name: Option<ServerName<'static>>,
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").field("name", &self.name).finish_non_exhaustive()
    }
}

impl TlsClient {
    /// Verifies the server with `roots`, or with those of the system if there are none; presents `identity` where the
    /// server requests a certificate; expects a certificate for `name`, or for the dialled host.
    ///
    /// # Errors
    /// There are no roots, the certificate does not match its key, or the name is invalid.
    pub fn new(
        roots: Option<Roots>,
        identity: Option<Identity>,
        name: Option<&str>,
    ) -> Result<Self, TlsError> {
        let roots = roots.filter(|roots| !roots.is_empty()).unwrap_or_else(Roots::system);
        if roots.is_empty() {
            return Err(TlsError::NoRoots);
        }
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots.0);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key)?,
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        let name = name.map(server_name).transpose()?;
        Ok(TlsClient { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// For the server of another product: without ALPN, and without verification if `verify` is false.
    ///
    /// # Errors
    /// As for [`TlsClient::new`].
    pub fn foreign(roots: Roots, identity: Option<Identity>, verify: bool) -> Result<Self, TlsError> {
        let builder =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = if verify {
            let roots = if roots.is_empty() { Roots::system() } else { roots };
            if roots.is_empty() {
                return Err(TlsError::NoRoots);
            }
            builder.with_root_certificates(roots.0)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider())))
        };
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key)?,
        };
        Ok(TlsClient { connector: TlsConnector::from(Arc::new(config)), name: None })
    }

    /// Performs the handshake on a socket that was dialled under this address. The caller bounds the time.
    ///
    /// # Errors
    /// The peer does not use TLS, or presents no valid certificate.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(&self, address: &str, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                server_name(host.trim_matches(['[', ']'])).map_err(io::Error::other)?
            }
        };
        Ok(self.connector.connect(name, socket).await?.into())
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))
}
