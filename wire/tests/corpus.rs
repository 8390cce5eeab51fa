//! The corpora of the fuzz targets, replayed.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../fuzz/operations.rs"]
mod operations;

fn replay(target: &str, operate: fn(&[u8])) {
    let dir = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut files = 0;
    for file in std::fs::read_dir(&dir).unwrap() {
        let data = std::fs::read(file.unwrap().path()).unwrap();
        operate(&data);
        // And every prefix of it.
        (0..data.len().min(300)).for_each(|cut| operate(&data[..cut]));
        files += 1;
    }
    assert!(files >= 5, "{dir} holds {files} files");
}

#[test]
fn decode() {
    replay("decode", operations::decode);
}

#[test]
fn conn_ops() {
    replay("conn_ops", operations::conn_ops);
}

#[test]
fn geminio_decode() {
    replay("geminio_decode", operations::geminio_decode);
}

#[test]
fn geminio_ops() {
    replay("geminio_ops", operations::geminio_ops);
}
