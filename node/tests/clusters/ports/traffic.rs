//! Calls of well-behaved clients beside hostile ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::support::{Bed, PATIENCE, until};

/// Calls in both directions until it is stopped; each must succeed.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    pub(crate) async fn start(bed: &Bed) -> Traffic {
        let (edge, service) = (bed.edge(1).await, bed.service(1, "well-behaved").await);
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let tasks = (0..2).map(|side| {
            let (edge, service, stop, count) = (edge.clone(), service.clone(), stop.clone(), count.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let result = match side {
                        0 => edge.call_within("echo", "x", PATIENCE).await,
                        _ => service.call_within(edge.id(), "echo", "x", PATIENCE).await,
                    };
                    assert_eq!(
                        result.unwrap_or_else(|error| panic!(
                            "a call of a well-behaved client failed: {error}"
                        )),
                        "x"
                    );
                    count.fetch_add(1, Ordering::Relaxed);
                    // Leaves the machine some time for the others.
                    sleep(Duration::from_millis(1)).await;
                }
            })
        });
        Traffic { tasks: tasks.collect(), stop, count }
    }

    /// Waits until some more calls have succeeded.
    pub(crate) async fn flows(&self) {
        let goal = self.count.load(Ordering::Relaxed) + 10;
        until("calls of well-behaved clients succeed", || async {
            let broken = self.tasks.iter().any(tokio::task::JoinHandle::is_finished);
            (broken || self.count.load(Ordering::Relaxed) >= goal).then_some(())
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("calls of well-behaved clients succeed");
        }
    }
}
