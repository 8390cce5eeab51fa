//! TLS under a driven connection: certificates by name, clients that must show one, ALPN (PROTOCOL 1.4).
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod driver_support;

use std::sync::Arc;

use driver_support::*;
use limes_wire::frame::Frame;
use limes_wire::transport::tls::{Identity, Roots, TlsClient, TlsError, TlsServer};
use limes_wire::transport::{AnyTransport, Transport as _};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

/// An authority, and what it signs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    fn roots(&self) -> Roots {
        let mut roots = Roots::new();
        roots.add_pem(self.pem.as_bytes()).unwrap();
        roots
    }

    fn client(&self, name: &str, shown: Option<Identity>) -> TlsClient {
        TlsClient::new(Some(self.roots()), shown, Some(name)).unwrap()
    }
}

/// Both ends after their TLS handshake, or the client's error.
async fn shake(server: &TlsServer, client: &TlsClient) -> std::io::Result<(AnyTransport, AnyTransport)> {
    let (near, far) = sockets().await;
    let (near, far) = tokio::join!(client.connect("nowhere:1", near), server.accept(far));
    Ok((near?.into(), far?.into()))
}

#[tokio::test]
async fn requested_name_selects_the_certificate_and_calls_are_answered() {
    let authority = Authority::new();
    let identities = vec![authority.identity("a.example"), authority.identity("b.example")];
    let server = TlsServer::new(identities, None).unwrap();
    for name in ["a.example", "b.example"] {
        let (near, far) = shake(&server, &authority.client(name, None)).await.unwrap();
        let (mut client, _server) = greet(near, far).await;
        client.send(call(1, vec![5; 300_000]));
        let Frame::Reply(reply) = client.frame().await else { panic!() };
        assert_eq!(reply.body.len(), 300_000);
    }
    // For any other name the server presents its first certificate, which the client refuses.
    let error = shake(&server, &authority.client("c.example", None)).await.unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    assert!(
        shake(&server, &Authority::new().client("a.example", None)).await.is_err(),
        "an unknown authority"
    );
}

#[tokio::test]
async fn client_without_a_required_certificate_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = TlsServer::new(vec![authority.identity("a.example")], Some(authority.roots())).unwrap();
    let shown = [None, Some(other.identity("edge")), Some(authority.identity("edge"))];
    let mut let_in = Vec::new();
    for shown in shown {
        // With TLS 1.3 the client learns of the refusal only afterwards, so the server's result counts.
        let (near, far) = sockets().await;
        let client = authority.client("a.example", shown);
        let (_near, far) = tokio::join!(client.connect("x:1", near), server.accept(far));
        let_in.push(far.is_ok());
    }
    assert_eq!(let_in, [false, false, true]);
}

#[tokio::test]
async fn server_sees_the_chain_of_a_client_certificate() {
    let authority = Authority::new();
    let server = TlsServer::new(vec![authority.identity("a.example")], Some(authority.roots())).unwrap();
    let client = authority.client("a.example", Some(authority.identity("edge")));
    let (near, far) = shake(&server, &client).await.unwrap();
    let chain = far.peer_identity().expect("the client has shown a certificate").chain();
    assert_eq!(chain.len(), 1, "the client's own certificate");
    let (near, far) = (near.peer_addr().unwrap(), far.socket().unwrap().local_addr().unwrap());
    assert_eq!(near, far, "the peer of one end is the other");
}

#[tokio::test]
async fn a_client_without_a_certificate_has_no_identity() {
    let authority = Authority::new();
    let server = TlsServer::new(vec![authority.identity("a.example")], None).unwrap();
    let (_near, far) = shake(&server, &authority.client("a.example", None)).await.unwrap();
    assert!(far.peer_identity().is_none());
}

#[tokio::test]
async fn peeked_bytes_can_still_be_read() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let authority = Authority::new();
    let server = TlsServer::new(vec![authority.identity("a.example")], None).unwrap();
    let tls = shake(&server, &authority.client("a.example", None)).await.unwrap();
    let (near, far) = sockets().await;
    for (mut near, mut far) in [tls, (near.into(), far.into())] {
        near.write_all(b"LIMES").await.unwrap();
        near.flush().await.unwrap();
        assert_eq!(far.first_byte().await.unwrap(), Some(b'L'));
        let mut peeked = [0; 2];
        assert_eq!((far.peek(&mut peeked).await.unwrap(), &peeked), (2, b"LI"));
        let mut all = [0; 5];
        far.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"LIMES");
        drop(near);
        assert_eq!(far.first_byte().await.ok().flatten(), None, "closed");
    }
}

#[tokio::test]
async fn client_that_offers_only_other_protocols_is_refused() {
    let authority = Authority::new();
    let server = TlsServer::new(vec![authority.identity("a.example")], None).unwrap();
    let offers: [(&[&[u8]], bool); 3] = [(&[b"h2"], false), (&[], true), (&[b"h2", b"limes/1"], true)];
    for (offer, taken) in offers {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = offer.iter().map(|name| name.to_vec()).collect();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let (near, far) = sockets().await;
        let name = ServerName::try_from("a.example").unwrap();
        let (near, _far) = tokio::join!(connector.connect(name, near), server.accept(far));
        assert_eq!(near.is_ok(), taken, "{offer:?}");
    }
}

#[test]
fn invalid_tls_settings_are_refused() {
    let authority = Authority::new();
    assert!(matches!(TlsServer::new(Vec::new(), None), Err(TlsError::NoCertificate)));
    let empty = TlsServer::new(vec![authority.identity("a")], Some(Roots::new()));
    assert!(matches!(empty, Err(TlsError::NoRoots)));
    let no_name = TlsClient::new(Some(authority.roots()), None, Some("not a name"));
    assert!(matches!(no_name, Err(TlsError::Name(_))));
    let wrong = KeyPair::generate().unwrap();
    let pem = CertificateParams::new(vec!["a".into()]).unwrap().self_signed(&wrong).unwrap().pem();
    let other = KeyPair::generate().unwrap().serialize_pem();
    let unfit = Identity::from_pem(pem.as_bytes(), other.as_bytes()).unwrap();
    assert!(matches!(TlsServer::new(vec![unfit], None), Err(TlsError::Rustls(_))));
    assert!(Identity::from_pem(pem.as_bytes(), b"no key").is_err());
}
