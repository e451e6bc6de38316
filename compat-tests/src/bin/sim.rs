//! `sim`: a seed of the simulation, in a process in which nothing is of chance. The same seed gives the same log, byte for byte.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use compat_tests::sim::bugs::BUGS;
use compat_tests::sim::process::{Processes, SEED, Told};
use compat_tests::sim::run::run;

/// A simulated cluster: its last line says what it came to, as JSON.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Arguments {
    /// What decides about everything.
    seed: u64,
    /// Print everything that happens.
    #[arg(long)]
    log: bool,
    /// Switch a deliberate bug on, to see whether it is found; needs a build with the feature `gateway/failpoints`.
    #[arg(long)]
    bug: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match begin(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::from(2)
        }
    }
}

fn begin(arguments: &Arguments) -> Result<ExitCode, String> {
    if let Some(bug) = &arguments.bug {
        if !metadata::failpoint::are_here() {
            return Err("this build has no deliberate bugs: it lacks the feature gateway/failpoints".into());
        }
        if !BUGS.iter().any(|known| known.name == bug) {
            return Err(format!("no bug is called {bug}"));
        }
    }
    if std::env::var_os(SEED).is_none() {
        return again(arguments);
    }
    metadata::failpoint::arm_from_env();
    let run = run(arguments.seed, arguments.log);
    if arguments.log {
        print!("{}", run.log);
    }
    let told = Told::of(&run);
    println!("{}", serde_json::to_string(&told).map_err(|error| error.to_string())?);
    Ok(if told.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts itself as it is to be started, and waits for that.
fn again(arguments: &Arguments) -> Result<ExitCode, String> {
    let failed = |error: std::io::Error| error.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let program: PathBuf = std::env::current_exe().map_err(failed)?;
        let processes = Processes::new(&program).await.map_err(failed)?;
        let mut command = processes.of(arguments.seed, arguments.bug.as_deref());
        if arguments.log {
            command.arg("--log");
        }
        let ended = command.status().await.map_err(failed)?;
        Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}
