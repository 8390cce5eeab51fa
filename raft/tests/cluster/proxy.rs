//! A wire between two members that changes a byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a byte is changed in.
pub const MARKED: [u8; 64] = [b'z'; 64];

/// Hands on what it gets, and changes a byte in the middle of [`MARKED`] so many times.
#[derive(Clone, Default)]
pub struct Proxy {
    left: Arc<AtomicU32>,
}

impl Proxy {
    /// Listens for whoever wants to reach `target`.
    pub fn start(&self, target: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let proxy = self.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let Ok(there) = TcpStream::connect(target) else { continue };
                let (back, forth) = (socket.try_clone().unwrap(), there.try_clone().unwrap());
                let proxy = proxy.clone();
                std::thread::spawn(move || proxy.carry(socket, there));
                std::thread::spawn(move || Proxy::default().carry(forth, back));
            }
        });
        addr
    }

    /// From now on, so many times.
    pub fn harm(&self, times: u32) {
        self.left.store(times, Ordering::Relaxed);
    }

    /// Whether all that was asked for has been done.
    pub fn is_done(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut some = vec![0; 64 << 10];
        while let Ok(many) = from.read(&mut some)
            && many > 0
        {
            let marked = some[..many].windows(MARKED.len()).position(|window| window == MARKED);
            let take = |left: u32| left.checked_sub(1);
            if let Some(at) = marked
                && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
            {
                some[at + MARKED.len() / 2] = b'y';
            }
            if to.write_all(&some[..many]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
    }
}
