//! TLS on the ports of edges and services, with certificates made here.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use limes_node::config::{CertPair, NodeConfig};
use limes_sdk::{Edge, Service, Tls};
use limes_wire::conn::MAGIC;
use limes_wire::frame::Hello;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::raw::{Raw, metric};
use crate::support::{Bed, PATIENCE, patient};

/// How long the SDK retries when a certificate is not accepted.
const REFUSED: Duration = Duration::from_secs(4);

/// Certificates in a folder: an authority, two servers, a client.
struct Papers {
    dir: TempDir,
}

static PAPERS: LazyLock<Papers> = LazyLock::new(Papers::make);

impl Papers {
    fn make() -> Papers {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for (file, name) in [("a", "a.example"), ("b", "b.example"), ("client", "client.example")] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(dir.path().join(format!("{file}.pem")), certificate.pem()).unwrap();
            std::fs::write(dir.path().join(format!("{file}.key")), key.serialize_pem()).unwrap();
        }
        Papers { dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pair(&self, name: &str) -> CertPair {
        CertPair { cert: self.file(&format!("{name}.pem")), key: self.file(&format!("{name}.key")) }
    }

    fn trusting(&self, name: &str) -> Tls {
        Tls::new().root_file(self.file("ca.pem")).unwrap().server_name(name)
    }
}

#[tokio::test]
async fn edges_and_services_speak_tls() {
    let bed = Bed::start_with(1, with_tls).await;
    let mut silent = TcpStream::connect(bed.edges(1)).await.unwrap();
    let edge = |tls: Tls, time: Duration| {
        let edge = Edge::builder().address(bed.edges(1)).tls(tls).connect_timeout(time);
        async move { edge.connect().await }
    };
    let service = |tls: Tls, time: Duration| {
        let service = Service::builder("safe").address(bed.services(1)).tls(tls);
        let service = service.connect_timeout(time);
        async move { service.connect().await }
    };
    // Each server name gets its own certificate.
    let a = edge(PAPERS.trusting("a.example"), PATIENCE).await.unwrap();
    let b = edge(PAPERS.trusting("b.example"), PATIENCE).await.unwrap();
    let stranger = KeyPair::generate().unwrap();
    let other = CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&stranger).unwrap();
    // A service needs a client certificate.
    let (no_such_name, other_root, without) = tokio::join!(
        edge(PAPERS.trusting("c.example"), REFUSED),
        edge(Tls::new().root_pem(other.pem()).unwrap().server_name("a.example"), REFUSED),
        service(PAPERS.trusting("a.example"), REFUSED),
    );
    for refused in [no_such_name, other_root] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
    }
    without.unwrap_err();
    let gone = Tls::new().root_file("nowhere.pem").unwrap_err().to_string();
    assert!(gone.starts_with("nowhere.pem: "), "{gone}");

    let files = PAPERS.pair("client");
    let shown = PAPERS.trusting("a.example").identity_files(files.cert, files.key).unwrap();
    let service = service(shown, PATIENCE).await.unwrap();
    service.register("echo", |call| async move { Ok(call.body) }).await.unwrap();
    a.register("echo", |call| async move { Ok(call.body) });

    carries_all_traffic(&a, &service).await;
    assert_eq!(b.call("echo", "b").await.unwrap(), "b");

    // Connections without TLS, and those that stay silent, are closed; others are not affected.
    let mut plain = Raw::connect(&bed.edges(1), Hello::default()).await;
    plain.socket.write_all(MAGIC).await.unwrap();
    let mut said = Vec::new();
    timeout(PATIENCE, plain.socket.read_to_end(&mut said)).await.expect("closed").ok();
    let ended = timeout(PATIENCE, silent.read(&mut [0; 8])).await.expect("closed in time");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert_eq!(b.call("echo", "still").await.unwrap(), "still");
    assert!(metric(&bed, "limes_connections_cut_total{port=\"edges\",reason=\"PROTOCOL\"}").await >= 1);
    assert!(
        metric(&bed, "limes_connections_cut_total{port=\"edges\",reason=\"HANDSHAKE_TIMEOUT\"}").await >= 1
    );
}

/// Calls in both directions and a stream work as without TLS.
async fn carries_all_traffic(edge: &Edge, service: &Service) {
    let large = Bytes::from((0..3_000_000u32).map(|n| (n / 7) as u8).collect::<Vec<u8>>());
    assert_eq!(edge.call("echo", large.clone()).await.unwrap(), large);
    assert_eq!(service.call(edge.id(), "echo", large.clone()).await.unwrap(), large);
    let mut near = edge.open_stream("safe", "").await.unwrap();
    let mut far = service.accept_stream().await.unwrap();
    let mut got = Vec::new();
    let (sent, read) = tokio::join!(
        async {
            near.write_all(&large).await?;
            near.shutdown().await
        },
        timeout(PATIENCE, far.stream.read_to_end(&mut got)),
    );
    sent.unwrap();
    read.unwrap().unwrap();
    assert!(got == large, "{} of {} bytes came", got.len(), large.len());
}

/// TLS on the edge port with two certificates, and mutual TLS on the service port.
fn with_tls(config: &mut NodeConfig) {
    patient(config);
    let edges = &mut config.edgebound.listen.tls;
    edges.enable = true;
    edges.certs = vec![PAPERS.pair("a"), PAPERS.pair("b")];
    let services = &mut config.servicebound.listen.tls;
    (services.enable, services.mtls) = (true, true);
    services.certs = vec![PAPERS.pair("a")];
    services.ca_certs = vec![PAPERS.file("ca.pem")];
    config.limits.handshake = Duration::from_secs(3);
}
