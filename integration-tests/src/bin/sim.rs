//! The simulator's command line: seeds, plans, shrinking and mutants.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use integration_tests::mutant::{self, Fate};
use integration_tests::plan::{Plan, shrink};
use integration_tests::sweep::{Length, Line, Subject, Summary};
use integration_tests::world::{self, Options, Report, RuntimeSeed};

/// Simulates clusters under faults and judges what they did.
///
/// Without arguments: a minute of seeds on every core. The exit code is 1 when a seed fails, 2 when
/// the harness itself does.
#[derive(Debug, Parser)]
#[command(name = "sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Task>,
    /// Seconds of real time for a sweep.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first seed of a sweep. By default it follows from the time of day.
    #[arg(long)]
    first: Option<u64>,
    /// Stop a sweep after so many seeds.
    #[arg(long)]
    seeds: Option<u64>,
    /// Worker processes of a sweep. By default one per core.
    #[arg(long)]
    jobs: Option<u64>,
    /// One seed instead of a sweep.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Clone, Debug, clap::Args)]
struct RunArguments {
    /// What is judged: leader, or the model that proves the harness.
    #[arg(long, default_value_t, global = true)]
    strategy: Subject,
    /// How much is simulated per seed: short or full.
    #[arg(long, default_value_t, global = true)]
    length: Length,
    /// A bug to plant, in its own mix; needs a build with `--features mutants`.
    #[arg(long, global = true)]
    mutant: Option<String>,
    /// Print the last events of the run.
    #[arg(long, global = true)]
    trace: bool,
    /// Print what the nodes log, as in `debug` or `leader=trace,openraft=info`, with simulated time.
    #[arg(long, global = true)]
    log: Option<String>,
    /// Run twice, once in a process of its own, and compare.
    #[arg(long, global = true)]
    doublecheck: bool,
    /// Write the plan of a failing run into this file.
    #[arg(long, global = true)]
    save: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs a plan from its file.
    Plan {
        /// The file.
        file: PathBuf,
    },
    /// Makes a failing seed's plan small, and writes it where `--save` says.
    Shrink {
        /// The seed.
        seed: u64,
        /// The most candidates to run.
        #[arg(long, default_value_t = 400)]
        limit: usize,
    },
    /// Plants every mutant and hunts it. Needs a build with `--features mutants`.
    Mutants,
    /// Runs seeds and writes a line of JSON for each: what a sweep starts.
    #[command(hide = true)]
    Worker {
        #[arg(long)]
        from: u64,
        #[arg(long)]
        step: u64,
        #[arg(long)]
        count: Option<u64>,
        #[arg(long = "for")]
        lasts: u64,
        /// Leaves tokio's own generator unseeded: the control of the determinism test.
        #[arg(long)]
        unseeded: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let run = &arguments.run;
    if let Some(filter) = &run.log {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_timer(SimulatedTime)
            .with_ansi(false)
            .with_writer(std::io::stderr)
            .init();
    }
    let outcome = match &arguments.command {
        Some(Task::Plan { file }) => Plan::load(file)
            .map_err(|e| format!("{}: {e}", file.display()))
            .and_then(|plan| one(&plan, run)),
        Some(Task::Shrink { seed, limit }) => shrink_seed(*seed, *limit, run),
        Some(Task::Mutants) => hunt(run),
        Some(Task::Worker { from, step, count, lasts, unseeded }) => {
            work(*from, *step, *count, Duration::from_secs(*lasts), *unseeded, run)
        }
        None => match arguments.seed {
            Some(seed) => plan_of(seed, run).and_then(|plan| one(&plan, run)),
            None => sweep(&arguments),
        },
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("sim: {why}");
            ExitCode::from(2)
        }
    }
}

/// Prints the time of the world and the node that logs.
struct SimulatedTime;

impl tracing_subscriber::fmt::time::FormatTime for SimulatedTime {
    fn format_time(
        &self,
        out: &mut tracing_subscriber::fmt::format::Writer<'_>,
    ) -> std::fmt::Result {
        let now = world::now().map_or(0.0, |now| now.as_secs_f64());
        match common::env::Env::current() {
            Some(env) => write!(out, "{now:>10.6} n{}", env.node),
            None => write!(out, "{now:>10.6} --"),
        }
    }
}

/// Answers are `Ok(true)` when nothing failed.
type Outcome = Result<bool, String>;

fn plan_of(seed: u64, run: &RunArguments) -> Result<Plan, String> {
    match &run.mutant {
        None => Ok(run.length.plan(seed)),
        Some(name) => Ok(known(name)?.plan(seed)),
    }
}

fn known(name: &str) -> Result<mutant::Mutant, String> {
    if !cfg!(feature = "mutants") {
        return Err("this build has no mutants: add `--features mutants` to cargo's arguments \
                    (cargo run --profile sim -p tercet-integration-tests --features mutants)"
            .to_owned());
    }
    mutant::named(name).ok_or_else(|| {
        let names: Vec<_> = mutant::all().into_iter().map(|m| m.name).collect();
        format!("`{name}` is no mutant: {}", names.join(", "))
    })
}

fn options(run: &RunArguments) -> Result<Options, String> {
    let mutant = match &run.mutant {
        None => None,
        Some(name) => {
            known(name)?;
            mutant::static_name(name)
        }
    };
    Ok(Options { keep_events: if run.trace { 400 } else { 0 }, mutant, ..Options::default() })
}

/// Runs one plan and tells everything about it.
fn one(plan: &Plan, run: &RunArguments) -> Outcome {
    let options = options(run)?;
    let started = Instant::now();
    let report = run.strategy.run(plan, &options);
    for event in &report.last {
        println!("{event}");
    }
    println!("seed        {} ({} on {} nodes)", plan.seed, run.strategy, plan.config.nodes);
    println!("digest      {:032x} of {} crossings", report.digest, report.events);
    println!("{}", report.stats);
    println!("real time   {:.2} s", started.elapsed().as_secs_f64());
    for (judge, verdict) in &report.verdicts {
        println!("{}", world::describe(judge, verdict));
    }
    let mut fine = report.passed();
    if run.doublecheck {
        let again = run.strategy.run(plan, &options);
        let fresh = fresh(plan.seed, run)?;
        let equal = again.digest == report.digest && fresh == format!("{:032x}", report.digest);
        println!(
            "doublecheck {}",
            if equal { "equal, also in another process" } else { "DIFFERS" }
        );
        fine &= equal;
    }
    save(plan, &report, run.save.as_deref())?;
    Ok(fine)
}

fn save(plan: &Plan, report: &Report, file: Option<&Path>) -> Result<(), String> {
    if let (Some(file), false) = (file, report.passed()) {
        plan.save(file).map_err(|e| e.to_string())?;
        println!("plan        written to {}", file.display());
    }
    Ok(())
}

fn own_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|e| format!("cannot start worker processes: {e}"))
}

fn worker(run: &RunArguments) -> Result<Command, String> {
    let mut command = Command::new(own_program()?);
    command.arg("worker");
    command.arg("--strategy").arg(run.strategy.to_string());
    command.arg("--length").arg(run.length.to_string());
    if let Some(mutant) = &run.mutant {
        command.arg("--mutant").arg(mutant);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// The digest of a seed in a process of its own.
fn fresh(seed: u64, run: &RunArguments) -> Result<String, String> {
    let seed = seed.to_string();
    let output = worker(run)?
        .args(["--from", &seed, "--step", "1", "--count", "1", "--for", "3600"])
        .output()
        .map_err(|e| format!("cannot start a worker process: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().ok_or("the worker process wrote nothing")?;
    let line: Line = serde_json::from_str(line).map_err(|e| format!("a worker's line: {e}"))?;
    Ok(line.digest)
}

/// Runs seeds and writes a line for each.
fn work(
    from: u64,
    step: u64,
    count: Option<u64>,
    lasts: Duration,
    unseeded: bool,
    run: &RunArguments,
) -> Outcome {
    let mut options = options(run)?;
    if unseeded {
        options.runtime = RuntimeSeed::Machine;
    }
    let until = Instant::now() + lasts;
    let seeds = (0..count.unwrap_or(u64::MAX)).map(|n| from.wrapping_add(n.wrapping_mul(step)));
    for seed in seeds {
        if Instant::now() >= until {
            break;
        }
        let report = run.strategy.run(&plan_of(seed, run)?, &options);
        let line = serde_json::to_string(&Line::of(&report)).map_err(|e| e.to_string())?;
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            break;
        }
    }
    Ok(true)
}

/// A minute of seeds: worker processes write, this one sums up.
fn sweep(arguments: &Arguments) -> Outcome {
    let run = &arguments.run;
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let jobs = arguments.jobs.unwrap_or(cores).max(1);
    let first = arguments.first.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |d| d.as_secs()) * 1_000
    });
    println!(
        "seeds from {first}, {jobs} processes, {} s, {} runs of {}",
        arguments.seconds, run.length, run.strategy
    );
    let (lines, collected) = mpsc::channel::<Result<Line, String>>();
    for job in 0..jobs {
        let mut command = worker(run)?;
        command.arg("--from").arg(first.wrapping_add(job).to_string());
        command.arg("--step").arg(jobs.to_string());
        command.arg("--for").arg(arguments.seconds.to_string());
        if let Some(seeds) = arguments.seeds {
            let share = (seeds + jobs - 1 - job) / jobs;
            command.arg("--count").arg(share.to_string());
        }
        let mut child = command.spawn().map_err(|e| format!("cannot start a worker: {e}"))?;
        let out = child.stdout.take().ok_or("a worker has no output")?;
        let lines = lines.clone();
        std::thread::spawn(move || {
            for text in BufReader::new(out).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&text).map_err(|e| format!("a worker's line: {e}"));
                let _ = lines.send(line);
            }
            match child.wait() {
                Ok(status) if status.success() => {}
                Ok(status) => drop(lines.send(Err(format!("a worker ended with {status}")))),
                Err(e) => drop(lines.send(Err(format!("a worker is lost: {e}")))),
            }
        });
    }
    drop(lines);
    let started = Instant::now();
    let (mut summary, mut broken) = (Summary::default(), Vec::new());
    for line in collected {
        match line {
            Ok(line) => {
                for (_, said) in &line.failures {
                    println!("\nseed {}: {said}", line.seed);
                    println!("repeat with: {}", repeat(line.seed, run));
                }
                summary.add(line);
            }
            Err(why) => broken.push(why),
        }
    }
    let real = started.elapsed().as_secs_f64();
    println!("\n{summary}");
    println!(
        "real time   {real:.1} s, {:.0} simulated seconds per second",
        summary.stats.simulated.as_secs_f64() / real.max(0.001)
    );
    if let (Some(file), Some(line)) = (&run.save, summary.failed.first()) {
        plan_of(line.seed, run)?.save(file).map_err(|e| e.to_string())?;
        println!("plan        of seed {} written to {}", line.seed, file.display());
    }
    if !broken.is_empty() {
        return Err(broken.join("; "));
    }
    if summary.seeds == 0 {
        return Err("no seed was run: give it more seconds".to_owned());
    }
    Ok(summary.failed.is_empty())
}

fn repeat(seed: u64, run: &RunArguments) -> String {
    let mut command = format!("cargo sim --seed {seed}");
    if run.length != Length::default() {
        let _ = write!(command, " --length {}", run.length);
    }
    if run.strategy != Subject::default() {
        let _ = write!(command, " --strategy {}", run.strategy);
    }
    if let Some(mutant) = &run.mutant {
        let _ = write!(command, " --mutant {mutant}");
    }
    command
}

fn shrink_seed(seed: u64, limit: usize, run: &RunArguments) -> Outcome {
    let options = options(run)?;
    let plan = plan_of(seed, run)?;
    let report = run.strategy.run(&plan, &options);
    let Some((judge, _)) = report.failures().next() else {
        return Err(format!("seed {seed} does not fail"));
    };
    let judge = *judge;
    println!("seed {seed} fails by `{judge}`; at most {limit} candidates");
    let fails = |candidate: &Plan| run.strategy.run(candidate, &options).killed_by(judge);
    let shrunk = shrink::shrink(&plan, limit, fails);
    let (small, runs) = (&shrunk.plan, shrunk.runs);
    println!(
        "after {runs} runs: {} faults of {}, {} operations of {}",
        small.faults.len(),
        plan.faults.len(),
        small.ops.len(),
        plan.ops.len()
    );
    for fault in &small.faults {
        println!("  {fault}");
    }
    let report = run.strategy.run(small, &options);
    for (judge, verdict) in report.failures() {
        println!("{}", world::describe(judge, verdict));
    }
    let file = run.save.clone().unwrap_or_else(|| PathBuf::from(format!("seed-{seed}.json")));
    small.save(&file).map_err(|e| e.to_string())?;
    println!("repeat with: cargo sim plan {}", file.display());
    Ok(true)
}

fn hunt(run: &RunArguments) -> Outcome {
    let mut all_dead = true;
    for mutant in mutant::all() {
        known(&mutant.name)?;
        match mutant.hunt(|plan, options| run.strategy.run(plan, options)) {
            Fate::Killed { seed, said } => {
                let said = said.lines().next().unwrap_or_default();
                println!("{:28} killed by seed {seed} of {}: {said}", mutant.name, mutant.budget);
            }
            Fate::Alive { others } => {
                all_dead = false;
                println!("{:28} ALIVE after {} seeds", mutant.name, mutant.budget);
                for said in others.iter().take(3) {
                    println!("{:28}   but {said}", "");
                }
            }
        }
    }
    Ok(all_dead)
}
