//! REST as scripts use it: plain HTTP/1.1, compared with `golden/rest/*.json`, a file a route.
//!
//! In these files, `{edge.NAME}`, `{service.NAME}`, `{edges}` and `{services}` stand for the ids and addresses of
//! the run, `"<addr>"` for any address and `"<time>"` for a time within the last hour, in seconds.

use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::support::program::output;
use crate::support::{Bed, PATIENCE};
use limes_sdk::{Edge, Service};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

#[derive(Deserialize)]
struct Exchange {
    request: String,
    status: u16,
    body: Value,
}

/// Requests and expected answers, with the ids of this run.
fn golden(file: &Path, known: &[(String, String)]) -> Vec<Exchange> {
    let mut text = std::fs::read_to_string(file).unwrap();
    for (name, value) in known {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Sends one request on its own connection; returns the status, the headers and the body.
async fn ask(addr: &str, request: &str) -> (u16, String, Vec<u8>) {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    let text = format!("{request} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("an answer").unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("headers");
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer.split_off(end + 4))
}

/// Sends requests with curl on one connection; returns nothing where curl is not installed.
async fn curl(addr: &str, requests: &[&str]) -> Vec<(u16, String, Vec<u8>)> {
    let (mut command, end) = (Command::new("curl"), "\n-- %{http_code} %{content_type} %{num_connects}\n");
    for (at, request) in requests.iter().enumerate() {
        let (method, path) = request.split_once(' ').unwrap();
        command.args(if at > 0 { &["--next"][..] } else { &[] });
        command
            .args(["-sS", "--globoff", "-m", "60", "-w", end, "-X", method])
            .arg(format!("http://{addr}{path}"));
    }
    let output = match output(&mut command).await {
        Err(error) => {
            eprintln!("SKIPPED: REST by curl: {error}");
            return Vec::new();
        }
        Ok(output) => output,
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{requests:?}: {stderr}");
    let (mut answers, mut body) = (Vec::new(), Vec::new());
    for line in output.stdout.split(|byte| *byte == b'\n') {
        let Some(end) = line.strip_prefix(b"-- ") else {
            body.extend_from_slice(line);
            continue;
        };
        let end = String::from_utf8(end.to_vec()).unwrap();
        let (status, rest) = end.split_once(' ').unwrap();
        let (kind, connects) = rest.rsplit_once(' ').unwrap();
        assert_eq!(connects == "1", answers.is_empty(), "one connection serves all requests: {end}");
        answers.push((status.parse().unwrap(), kind.to_owned(), std::mem::take(&mut body)));
    }
    assert_eq!(answers.len(), requests.len());
    answers
}

fn same(wanted: &Value, got: &Value) -> bool {
    match (wanted, got) {
        (Value::String(any), Value::String(got)) if any == "<addr>" => got.starts_with("127.0.0.1:"),
        (Value::String(any), Value::String(got)) if any == "<time>" => {
            let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
            got.parse::<u64>().is_ok_and(|at| (now - 3_600..=now).contains(&at))
        }
        (Value::Array(wanted), Value::Array(got)) => {
            wanted.len() == got.len() && wanted.iter().zip(got).all(|(wanted, got)| same(wanted, got))
        }
        (Value::Object(wanted), Value::Object(got)) => {
            wanted.len() == got.len()
                && wanted.iter().all(|(key, wanted)| got.get(key).is_some_and(|got| same(wanted, got)))
        }
        _ => wanted == got,
    }
}

async fn compare(file: &Path, addr: &str, known: &[(String, String)]) {
    for Exchange { request, status, body } in golden(file, known) {
        let (got_status, head, got) = ask(addr, &request).await;
        let shown = String::from_utf8_lossy(&got).into_owned();
        let about =
            format!("{}: {request}\nwanted {status} {body}\ngot {got_status} {shown}", file.display());
        assert_eq!(got_status, status, "{about}");
        match &body {
            Value::String(text) => assert_eq!(&shown, text, "{about}"),
            body => {
                assert!(head.contains("content-type: application/json"), "{about}\n{head}");
                assert!(same(body, &serde_json::from_slice(&got).expect(&about)), "{about}");
            }
        }
    }
}

async fn service(bed: &Bed, name: &str, methods: &[&str], topics: &[&str]) -> Service {
    let service = Service::builder(name).address(bed.services(1)).connect_timeout(PATIENCE);
    let service = service.connect().await.unwrap();
    for method in methods {
        service.register(method, |call| async move { Ok(call.body) }).await.unwrap();
    }
    service.subscribe(topics.iter().copied()).await.unwrap();
    service
}

#[tokio::test]
async fn every_route_answers_as_its_golden_file_says() {
    let bed = Bed::start(1).await;
    let mut known = vec![("edges".to_owned(), bed.edges(1)), ("services".to_owned(), bed.services(1))];
    let mut edges = Vec::new();
    for meta in ["beta-1", "beta-2", "gamma"] {
        let edge = Edge::builder().address(bed.edges(1)).meta(meta).connect_timeout(PATIENCE);
        let edge = edge.connect().await.unwrap();
        known.push((format!("edge.{meta}"), edge.id().to_string()));
        edges.push(edge);
    }
    let alarms = service(&bed, "alarms", &["echo", "sound"], &["fire", "flood"]).await;
    let other = service(&bed, "other", &["echo", "who"], &[]).await;
    for (name, service) in [("alarms", &alarms), ("other", &other)] {
        known.push((format!("service.{name}"), service.id().to_string()));
    }
    let addresses = bed.cluster.node(1).addresses();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rest");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    // Kicks come last: they change what the others show.
    files.sort_by_key(|file| (file.ends_with("control-kick.json"), file.clone()));
    assert_eq!(files.len(), 17, "one file for each route, and one for both kicks");
    for file in files {
        let control = file.file_name().unwrap().to_string_lossy().starts_with("control-");
        let addr = if control { &addresses.control } else { &addresses.discovery };
        compare_curl(&file, addr, &known).await;
        compare(&file, addr, &known).await;
    }
}

/// Compares the answers of the routes that change nothing, as curl gets them.
async fn compare_curl(file: &Path, addr: &str, known: &[(String, String)]) {
    let mut exchanges = golden(file, known);
    exchanges.retain(|exchange| exchange.request.starts_with("GET "));
    let requests: Vec<&str> = exchanges.iter().map(|exchange| &*exchange.request).collect();
    if requests.is_empty() {
        return;
    }
    let answers = curl(addr, &requests).await;
    for (Exchange { request, status, body }, (got_status, kind, got)) in exchanges.iter().zip(answers) {
        let shown = String::from_utf8_lossy(&got).into_owned();
        let about = format!("curl {request}\nwanted {status} {body}\ngot {got_status} {shown}");
        assert_eq!(got_status, *status, "{about}");
        if !body.is_string() {
            assert!(kind.starts_with("application/json"), "{about}\n{kind}");
            assert!(same(body, &serde_json::from_slice(&got).expect(&about)), "{about}");
        }
    }
}

#[tokio::test]
async fn a_read_only_control_plane_refuses_kicks() {
    let bed = Bed::start(1).await;
    let file = bed.cluster.node(1).folder().join("limes.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replacen("controlplane:\n", "controlplane:\n  read_only: true\n", 1);
    std::fs::write(&file, text).unwrap();
    bed.cluster.kill9(1).await.unwrap();
    bed.cluster.node(1).start().unwrap();
    bed.cluster.wait_ready(PATIENCE).await.unwrap();
    let edge = bed.edge(1).await;
    let addr = bed.cluster.node(1).addresses().control;
    let path = format!("/v1/edges/{}", edge.id());
    let (status, _, body) = ask(&addr, &format!("DELETE {path}")).await;
    assert_eq!(status, 403, "{}", String::from_utf8_lossy(&body));
    let by_curl = curl(&addr, &[&format!("DELETE {path}"), &format!("GET {path}")]).await;
    let statuses: Vec<u16> = by_curl.iter().map(|(status, ..)| *status).collect();
    assert!(statuses == [403, 200] || statuses.is_empty(), "{statuses:?}");
    assert_eq!(ask(&addr, &format!("GET {path}")).await.0, 200);
}
