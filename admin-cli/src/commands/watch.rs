//! `limesctl watch`.

use std::time::{Duration, Instant};

use clap::Args;
use limes_api::v1::change::What;
use limes_api::v1::{Change, WatchRequest};
use tonic::Code;

use crate::client::{connect, next};
use crate::context::Context;
use crate::error::Error;
use crate::output;

/// Time after the last message during which the watch tries to reach another node.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two attempts.
const AGAIN: Duration = Duration::from_millis(300);

/// Where a watch begins and ends.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Continue after this position of an earlier watch; "now" prints new changes only.
    #[arg(long, value_name = "POSITION")]
    from: Option<String>,
    /// End when all changes up to now are printed.
    #[arg(long)]
    once: bool,
}

/// Prints changes until it is stopped. If its node goes away, the watch continues at another node, after the
/// change that it printed last.
pub(super) async fn run(context: &Context, options: Options) -> Result<(), Error> {
    let mut from = options.from.unwrap_or_default();
    let mut last_heard = Instant::now();
    loop {
        let error = match follow(context, &mut from, options.once, &mut last_heard).await {
            Ok(true) => return Ok(()),
            Ok(false) => Error::WatchEnded,
            Err(error @ (Error::Print(_) | Error::Json(_) | Error::Endpoint(_))) => return Err(error),
            Err(Error::Refused(status)) if is_final(status.code()) => return Err(Error::Refused(status)),
            Err(error) => error,
        };
        if last_heard.elapsed() > PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whether another attempt would fail in the same way.
fn is_final(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::Unimplemented)
}

/// Follows one node; gives whether everything requested is printed.
async fn follow(
    context: &Context,
    from: &mut String,
    once: bool,
    last_heard: &mut Instant,
) -> Result<bool, Error> {
    let request = WatchRequest { from: from.clone(), local: context.local };
    let mut changes = connect(context).await?.watch(request).await?.into_inner();
    while let Some(change) = next(&mut changes).await? {
        *last_heard = Instant::now();
        if !change.position.is_empty() {
            from.clone_from(&change.position);
        }
        let synced = matches!(change.what, Some(What::Synced(_)));
        if matches!(change.what, Some(What::Compacted(_))) {
            from.clear();
        }
        if context.json {
            output::json(&change)?
        } else {
            output::print(&line(&change))?
        }
        if once && synced {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A change as a line of text.
fn line(change: &Change) -> String {
    let Some(what) = &change.what else {
        return "a change that this version of limesctl does not know".to_owned();
    };
    let text = match what {
        What::Synced(synced) => format!("synced {}", synced.revision),
        What::Compacted(gone) => {
            format!(
                "compacted: changes up to revision {} are no longer kept; the present state follows",
                gone.revision
            )
        }
        What::Edge(edge) => {
            let meta = edge.meta.escape_debug();
            format!("edge {} on {} from {} as {} {meta:?}", edge.id, edge.node, edge.addr, edge.incarnation)
        }
        What::EdgeGone(gone) => format!("edge {} gone from {}: {}", gone.id, gone.node, gone.why),
        What::Service(service) => format!(
            "service {} {:?} on {}: methods [{}] topics [{}]",
            service.id,
            service.name,
            service.node,
            service.methods.join(" "),
            service.topics.join(" ")
        ),
        What::ServiceGone(gone) => format!("service {} gone from {}: {}", gone.id, gone.node, gone.why),
        What::NodeUp(node) => format!("{} up in epoch {}", node.name, node.epoch),
        What::NodeDown(node) => format!("{} down, with all its edges and services", node.name),
        What::MembersChanged(_) => "the members have changed".to_owned(),
        What::Drained(node) if node.on => format!("{} is draining", node.name),
        What::Drained(node) => format!("{} accepts new sessions again", node.name),
        What::Setting(setting) if setting.value.is_empty() => format!("setting {} removed", setting.key),
        What::Setting(setting) => format!("setting {} is {}", setting.key, setting.value),
    };
    if change.position.is_empty() { text } else { format!("{text}  @{}", change.position) }
}
