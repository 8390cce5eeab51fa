//! Writes the member cache whenever the members or their boots change.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use super::member::Member;
use crate::storage::member_cache::MemberCache;

/// How long entries gather before the tables are compared with the cache.
const GATHER: Duration = Duration::from_millis(100);

/// Keeps the member cache up to date. Runs until it is dropped.
pub(crate) async fn run(member: Arc<Member>) {
    let mut applied = member.state.applied();
    let mut stored = MemberCache::read(&member.state.dir);
    loop {
        applied.borrow_and_update();
        let current = member.state.read(MemberCache::of);
        if current.members != stored.members || current.made != stored.made {
            let (dir, written) = (member.state.dir.clone(), current.clone());
            match tokio::task::spawn_blocking(move || written.write(&dir)).await {
                Ok(Ok(())) => stored = current,
                other => warn!(?other, "cannot write the member cache"),
            }
        }
        if applied.changed().await.is_err() {
            return;
        }
        sleep(GATHER).await;
    }
}
