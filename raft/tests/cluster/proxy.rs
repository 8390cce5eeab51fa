//! A TCP proxy between two members that damages bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The bytes that are damaged.
pub const MARKED: [u8; 64] = [b'z'; 64];

/// Forwards connections, and damages a byte in [`MARKED`] as often as [`Proxy::harm`] says.
#[derive(Clone, Default)]
pub struct Proxy {
    left: Arc<AtomicU32>,
}

impl Proxy {
    /// Listens, and forwards connections to `target`; returns the address.
    pub fn start(&self, target: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let proxy = self.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let Ok(there) = TcpStream::connect(target) else { continue };
                let (back, forth) = (socket.try_clone().unwrap(), there.try_clone().unwrap());
                let proxy = proxy.clone();
                std::thread::spawn(move || proxy.forward(socket, there));
                std::thread::spawn(move || Proxy::default().forward(forth, back));
            }
        });
        addr
    }

    /// Damages the bytes the next `times` times.
    pub fn harm(&self, times: u32) {
        self.left.store(times, Ordering::Relaxed);
    }

    /// Whether all damage has been done.
    pub fn is_done(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count) = from.read(&mut buffer)
            && count > 0
        {
            let marked = buffer[..count].windows(MARKED.len()).position(|window| window == MARKED);
            let take = |left: u32| left.checked_sub(1);
            if let Some(at) = marked
                && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
            {
                buffer[at + MARKED.len() / 2] = b'y';
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
    }
}
