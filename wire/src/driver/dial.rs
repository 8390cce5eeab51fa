//! Making a socket for [`drive`](super::drive).

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// Sets what every socket of the protocol wants: no delay of small writes.
///
/// # Errors
/// The socket is already broken.
pub fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)
}

/// Connects to `host:port`, trying each address that the name has, within `limit` altogether.
///
/// # Errors
/// None of them took the connection in time.
///
/// Cancel safety: dropping the future gives the attempt up.
pub async fn dial(addr: &str, limit: Duration) -> io::Result<TcpStream> {
    let socket = timeout(limit, TcpStream::connect(addr)).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("{addr} has not answered within {limit:?}"))
    })??;
    tune(&socket)?;
    Ok(socket)
}
