//! `limes-jepsen`: kill or pause nodes in turn while calls flow; exits 0 if all held, 1 if something did
//! not, 2 if the run proves nothing. `limes-jepsen figures`: how long each fault is felt. `limes-jepsen
//! crashes`: all nodes are killed at once, and nothing that was acknowledged may be missing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use limes_jepsen::checker::judge;
use limes_jepsen::cluster::Cluster;
use limes_jepsen::crashes::{self, History};
use limes_jepsen::nemesis::{Fault, strike};
use limes_jepsen::workload::Workload;
use limes_jepsen::{binary, figures};
use tokio::time::sleep;

/// Breaks a cluster and judges what clients saw.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

/// What else it can do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Acts the fault table out on `limes dev` and prints median and worst beside the goal.
    Figures {
        /// The binary to be tested; if it is not given, this workspace's is built.
        #[arg(long)]
        binary: Option<PathBuf>,
        /// How often.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
        runs: u16,
        /// Prints one JSON object on one line to stdout; the table goes to stderr.
        #[arg(long)]
        json: bool,
    },
    /// Kills all nodes at once, again and again, while edges connect; judges by what every node has
    /// afterwards, and leaves the history in the folder.
    Crashes {
        /// The binary to be tested; if it is not given, this workspace's is built.
        #[arg(long)]
        binary: Option<PathBuf>,
        /// How often.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Decides when; another one each time if it is not given.
        #[arg(long)]
        seed: Option<u64>,
        /// The cluster's folder; made, and left for its logs.
        #[arg(long, default_value = "limes-crashes")]
        dir: PathBuf,
        /// Judges the history of an earlier run once more.
        #[arg(long, conflicts_with_all = ["binary", "rounds", "seed"])]
        judge: Option<PathBuf>,
    },
}

/// Faults in turn.
#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The binary to be tested; if it is not given, this workspace's is built.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// How long, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What to do to the nodes, in turn.
    #[arg(long, value_enum, default_value = "kill")]
    fault: Fault,
    /// How long each fault lasts, in milliseconds.
    #[arg(long, default_value_t = 3_000)]
    length: u64,
    /// Time between faults, in milliseconds.
    #[arg(long, default_value_t = 5_000)]
    pause: u64,
    /// Edges on each node.
    #[arg(long, default_value_t = 2)]
    edges: usize,
    /// The cluster's folder; made, and left for its logs.
    #[arg(long, default_value = "limes-jepsen")]
    dir: PathBuf,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let Args { command, run: args } = Args::parse();
    let done = match command {
        Some(Command::Figures { binary, runs, json }) => print_figures(binary, runs, json).await,
        Some(Command::Crashes { judge: Some(file), .. }) => {
            History::read(&file).map_err(Failure::from).and_then(|history| judge_crashes(&history))
        }
        Some(Command::Crashes { binary, rounds, seed, dir, judge: None }) => {
            crash(binary, rounds, seed, dir).await
        }
        None => run(args).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("inconclusive: {error}");
            ExitCode::from(2)
        }
    }
}

async fn print_figures(binary: Option<PathBuf>, runs: u16, json: bool) -> Result<bool, Failure> {
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
) -> Result<bool, Failure> {
    let seed = seed.unwrap_or_else(rand::random);
    println!("--seed {seed}");
    let options = crashes::Options { binary: binary::find(binary)?, dir, rounds, seed };
    let history = crashes::run(&options).await?;
    let file = crashes::file(&options.dir);
    history.write(&file)?;
    println!("history: {}", file.display());
    judge_crashes(&history)
}

fn judge_crashes(history: &History) -> Result<bool, Failure> {
    let verdict = history.judge();
    println!(
        "{} times all nodes were killed; {} events were acknowledged; {} looks at a node",
        verdict.kills, verdict.acknowledged, verdict.audits
    );
    if verdict.kills == 0 || verdict.acknowledged == 0 {
        return Err("nothing was acknowledged, or nobody killed".into());
    }
    for line in verdict.broken.iter().take(20) {
        println!("BROKEN: {line}");
    }
    println!("{}", if verdict.broken.is_empty() { "PASS" } else { "FAIL" });
    Ok(verdict.broken.is_empty())
}

async fn run(args: RunArgs) -> Result<bool, Failure> {
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
        return Err("no fault was done".into());
    }
    let history = workload.finish(Duration::from_secs(20)).await;
    let (figures, broken) = judge(&history);
    if figures.calls == 0 {
        return Err("no call was made".into());
    }
    println!(
        "{faults} faults; {} calls, {} failed, the slowest that did not took {:?}",
        figures.calls, figures.failed, figures.slowest
    );
    for (text, times) in &figures.failures {
        println!("{times:6} x {text}");
    }
    for line in broken.iter().take(20) {
        println!("BROKEN: {line}");
    }
    println!("{}", if broken.is_empty() { "PASS" } else { "FAIL" });
    Ok(broken.is_empty())
}
