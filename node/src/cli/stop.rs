//! When to end: SIGINT or SIGTERM, or the death of the parent.

use std::future::Future;
use std::io::Read;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal as on};
use tokio::sync::oneshot;

use super::Failure;

/// How long an orphan may take to end in good order.
const ORPHAN_GRACE: Duration = Duration::from_secs(3);

/// Completes at the first SIGINT or SIGTERM; from then on a second one ends the process at once.
pub(super) fn signal() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
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

/// Completes at a signal, and at the end of stdin if that is asked for.
pub(super) fn any(stdin_eof: bool) -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
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

/// Completes when stdin ends. A thread of its own, since a read of stdin cannot be given up; it also
/// sees to it that an orphan is gone soon, whatever the rest of the process does.
fn orphaned() -> Result<oneshot::Receiver<()>, Failure> {
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut ignored = [0; 64];
        while stdin.read(&mut ignored).is_ok_and(|read| read > 0) {}
        let _ = tell.send(());
        std::thread::sleep(ORPHAN_GRACE);
        std::process::exit(1);
    })?;
    Ok(told)
}
