//! `limes-jepsen`: kills or pauses nodes in turn while calls run. Exit status: 0 every guarantee held, 1 one did not,
//! 2 the run proves nothing.
//!
//! `limes-jepsen figures` measures how long clients notice each fault. `limes-jepsen crashes` kills all nodes at once
//! and reports acknowledged events that are missing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use limes_jepsen::checker::judge;
use limes_jepsen::cluster::Cluster;
use limes_jepsen::crashes::{self, History};
use limes_jepsen::nemesis::{Fault, strike};
use limes_jepsen::workload::Workload;
use limes_jepsen::{Error, binary, figures};
use tokio::time::sleep;

/// Broken guarantees that are printed.
const BROKEN_MAX: usize = 20;
/// How long edges may take to be reachable again at the end of a run.
const RECOVERY: Duration = Duration::from_secs(20);

/// Breaks a cluster and judges what clients saw.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

/// Other runs.
#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the faults of the fault table on `limes dev` and prints median and worst times beside the goals.
    Figures {
        /// The binary under test; by default that of this workspace, which is built.
        #[arg(long)]
        binary: Option<PathBuf>,
        /// How often.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
        runs: u16,
        /// Print one JSON object on one line to stdout; the table goes to stderr.
        #[arg(long)]
        json: bool,
    },
    /// Kills all nodes at once, again and again, while edges connect; judges by what every node holds afterwards,
    /// and leaves the history in the folder.
    Crashes {
        /// The binary under test; by default that of this workspace, which is built.
        #[arg(long)]
        binary: Option<PathBuf>,
        /// How often.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// The seed of all random choices; by default a new one each time.
        #[arg(long)]
        seed: Option<u64>,
        /// The cluster's folder; it is created, and left behind for its logs.
        #[arg(long, default_value = "limes-crashes")]
        dir: PathBuf,
        /// Judge the history of an earlier run again.
        #[arg(long, conflicts_with_all = ["binary", "rounds", "seed"])]
        judge: Option<PathBuf>,
    },
}

/// Faults in turn.
#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The binary under test; by default that of this workspace, which is built.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Length of the run, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The fault that is applied to the nodes in turn.
    #[arg(long, value_enum, default_value = "kill")]
    fault: Fault,
    /// Length of each fault, in milliseconds.
    #[arg(long, default_value_t = 3_000)]
    length: u64,
    /// Time between faults, in milliseconds.
    #[arg(long, default_value_t = 5_000)]
    pause: u64,
    /// Edges on each node.
    #[arg(long, default_value_t = 2)]
    edges: usize,
    /// The cluster's folder; it is created, and left behind for its logs.
    #[arg(long, default_value = "limes-jepsen")]
    dir: PathBuf,
}

/// Whether every guarantee held.
type Passed = bool;

#[tokio::main]
async fn main() -> ExitCode {
    let Args { command, run: args } = Args::parse();
    let result = match command {
        Some(Command::Figures { binary, runs, json }) => print_figures(binary, runs, json).await,
        Some(Command::Crashes { judge: Some(file), .. }) => {
            History::read(&file).map_err(Error::from).and_then(|history| judge_crashes(&history))
        }
        Some(Command::Crashes { binary, rounds, seed, dir, judge: None }) => {
            crash(binary, rounds, seed, dir).await
        }
        None => run(args).await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("inconclusive: {error}");
            ExitCode::from(2)
        }
    }
}

async fn print_figures(binary: Option<PathBuf>, runs: u16, json: bool) -> Result<Passed, Error> {
    let table = figures::run(&binary::find(binary)?, usize::from(runs)).await?;
    if json {
        eprintln!("{table}");
        println!("{}", table.json());
    } else {
        println!("{table}");
    }
    Ok(true)
}

async fn crash(
    binary: Option<PathBuf>,
    rounds: u32,
    seed: Option<u64>,
    dir: PathBuf,
) -> Result<Passed, Error> {
    let seed = seed.unwrap_or_else(rand::random);
    println!("--seed {seed}");
    let options = crashes::Options { binary: binary::find(binary)?, dir, rounds, seed };
    let history = crashes::run(&options).await?;
    let file = crashes::file(&options.dir);
    history.write(&file)?;
    println!("history: {}", file.display());
    judge_crashes(&history)
}

fn judge_crashes(history: &History) -> Result<Passed, Error> {
    let verdict = history.judge();
    println!(
        "all nodes were killed {} times; {} events were acknowledged; {} audits of a node",
        verdict.kills, verdict.acknowledged, verdict.audits
    );
    if verdict.kills == 0 || verdict.acknowledged == 0 {
        return Err(Error::NothingHappened("no event was acknowledged, or no node killed"));
    }
    Ok(print_broken(&verdict.broken))
}

async fn run(args: RunArgs) -> Result<Passed, Error> {
    let binary = binary::find(args.binary)?;
    let mut cluster = match args.fault {
        Fault::Cut => Cluster::start_netted(&binary, &args.dir, 3).await?,
        Fault::Kill | Fault::Pause => Cluster::start(&binary, &args.dir, 3).await?,
    };
    let workload = Workload::start(&cluster, args.edges).await?;
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let mut faults = 0;
    while Instant::now() < until {
        sleep(Duration::from_millis(args.pause)).await;
        strike(&mut cluster, faults % 3, args.fault, Duration::from_millis(args.length)).await?;
        faults += 1;
    }
    if faults == 0 {
        return Err(Error::NothingHappened("no fault was applied"));
    }
    let history = workload.finish(RECOVERY).await?;
    let (figures, broken) = judge(&history);
    if figures.calls == 0 {
        return Err(Error::NothingHappened("no call was made"));
    }
    println!(
        "{faults} faults; {} calls, {} failed, the slowest success took {:?}",
        figures.calls, figures.failed, figures.slowest
    );
    for (text, times) in &figures.failures {
        println!("{times:6} x {text}");
    }
    Ok(print_broken(&broken))
}

/// Prints the verdict.
fn print_broken(broken: &[String]) -> Passed {
    for line in broken.iter().take(BROKEN_MAX) {
        println!("BROKEN: {line}");
    }
    println!("{}", if broken.is_empty() { "PASS" } else { "FAIL" });
    broken.is_empty()
}
