//! When to stop: at SIGINT or SIGTERM, or when the parent process is gone.

use std::future::Future;
use std::io::{self, Read};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal as on};
use tokio::sync::oneshot;

/// How long a node whose parent is gone may take to drain.
const ORPHAN_GRACE: Duration = Duration::from_secs(3);

/// Completes at the first SIGINT or SIGTERM; a second one then ends the process at once with status 130.
///
/// # Errors
/// The handlers cannot be installed.
pub(super) fn signal() -> Result<impl Future<Output = ()> + Send + 'static, io::Error> {
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut terminate = on(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(130);
        });
    })
}

/// Completes at a signal, and if `stdin_eof` also at the end of stdin.
///
/// # Errors
/// The handlers cannot be installed, or the thread cannot be started.
pub(super) fn any(stdin_eof: bool) -> Result<impl Future<Output = ()> + Send + 'static, io::Error> {
    let signal = signal()?;
    let orphan = if stdin_eof { Some(orphaned()?) } else { None };
    Ok(async move {
        match orphan {
            Some(orphan) => tokio::select! {
                () = signal => {}
                _ = orphan => {}
            },
            None => signal.await,
        }
    })
}

/// Completes when stdin ends. Reads on a thread, since a blocking read of stdin cannot be cancelled. The
/// thread also ends the process [`ORPHAN_GRACE`] later, whatever the rest of it does.
fn orphaned() -> Result<oneshot::Receiver<()>, io::Error> {
    let (sender, ended) = oneshot::channel();
    std::thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut ignored = [0; 64];
        while stdin.read(&mut ignored).is_ok_and(|read| read > 0) {}
        let _ = sender.send(());
        std::thread::sleep(ORPHAN_GRACE);
        std::process::exit(1);
    })?;
    Ok(ended)
}
