//! `streamhouse`: parse, validate, run.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser;
use gateway::admin::ask::ask;
use gateway::app::App;
use gateway::cli::{Cli, Command, list_options, of_variable};
use gateway::options::kafka_env::Remarks;
use gateway::options::{LogFormat, Options};
use gateway::restore::restore;
use gateway::scrub::scrub;
use metadata::error::SubmitError;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The configuration is wrong; nothing was started.
const EXIT_OPTIONS: u8 = 2;
/// The gateway could not be started.
const EXIT_START: u8 = 1;
/// Another gateway took the journal over.
const EXIT_FENCED: u8 = 3;
/// Stored bytes are missing or damaged.
const EXIT_UNREADABLE: u8 = 4;
/// A second signal ended the process before everything was flushed.
const EXIT_HURRIED: u8 = 130;

fn main() -> ExitCode {
    metadata::failpoint::arm_from_env();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => match of_variable(&error, |name| std::env::var(name).ok(), std::env::args()) {
            Some(line) => {
                eprintln!("streamhouse: {line}");
                return ExitCode::from(EXIT_OPTIONS);
            }
            None => error.exit(),
        },
    };
    if cli.list_options {
        print!("{}", list_options());
        return ExitCode::SUCCESS;
    }
    match &cli.command {
        Some(Command::Cost { admin }) => return show(admin, "/cost"),
        Some(Command::Health { admin }) => return show(admin, "/ready"),
        Some(Command::Restore(_) | Command::Scrub(_)) | None => {}
    }
    let options = match &cli.command {
        Some(Command::Restore(args)) => args.options().map(without_remarks),
        Some(Command::Scrub(args)) => args.options().map(without_remarks),
        Some(Command::Cost { .. } | Command::Health { .. }) | None => cli.options(),
    };
    let (options, remarks) = match options {
        Ok(read) => read,
        Err(error) => {
            eprintln!("streamhouse: {error}");
            return ExitCode::from(EXIT_OPTIONS);
        }
    };
    if let Err(error) = log_to_stderr(&options) {
        eprintln!("streamhouse: option `log`: {error}{}", remarks.blame("--log"));
        return ExitCode::from(EXIT_OPTIONS);
    }
    remarks.log();
    if cli.check {
        println!("The configuration can be served.");
        return ExitCode::SUCCESS;
    }
    // Service managers start with 1,024 files for the sake of programs that use `select`; connections need more.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("streamhouse").build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("streamhouse: cannot start threads: {error}");
            return ExitCode::from(EXIT_START);
        }
    };
    match cli.command {
        Some(Command::Cost { .. } | Command::Health { .. }) | None => runtime.block_on(run(options, &remarks)),
        Some(Command::Restore(args)) => runtime.block_on(run_restore(&options, args.at)),
        Some(Command::Scrub(_)) => runtime.block_on(run_scrub(&options)),
    }
}

/// Kafka's own configuration is for serving only.
fn without_remarks(options: Options) -> (Options, Remarks) {
    (options, Remarks::default())
}

/// Progress goes where the log goes.
fn say(line: String) {
    eprintln!("streamhouse: {line}");
}

async fn run_restore(options: &Options, at: Option<i64>) -> ExitCode {
    match restore(options, at, &say).await {
        Ok(restored) => {
            println!("Restored cluster {} at entry {}.", restored.owner.cluster, restored.lsn);
            println!("  segments committed again  {}", restored.replayed);
            println!("  objects missing           {}", restored.missing);
            println!("Start a gateway with --journal {} on it.", restored.owner.journal.name());
            if restored.missing > 0 {
                println!("`streamhouse scrub` tells which objects are missing.");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("streamhouse: nothing was restored: {error}");
            ExitCode::from(EXIT_START)
        }
    }
}

async fn run_scrub(options: &Options) -> ExitCode {
    match scrub(options, &say).await {
        Ok(found) => {
            found.unreadable.iter().for_each(|(key, why)| println!("unreadable    {key}: {why}"));
            found.unreferenced.iter().for_each(|key| println!("unreferenced  {key}"));
            println!(
                "{} objects, {} bytes of records checked: {} unreadable, {} unreferenced, {} not referred to yet or for a \
                 little longer",
                found.objects,
                found.bytes,
                found.unreadable.len(),
                found.unreferenced.len(),
                found.pending
            );
            if found.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNREADABLE) }
        }
        Err(error) => {
            eprintln!("streamhouse: nothing was checked: {error}");
            ExitCode::from(EXIT_START)
        }
    }
}

/// Prints what a running gateway tells at its admin listener.
fn show(admin: &str, path: &str) -> ExitCode {
    match ask(admin, path) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("streamhouse: no gateway answers at {admin}: {error}; --admin says where its admin listener is");
            ExitCode::from(EXIT_START)
        }
    }
}

async fn run(options: Options, remarks: &Remarks) -> ExitCode {
    let signals = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    let Ok((mut terminate, mut interrupt)) = signals else {
        eprintln!("streamhouse: cannot listen for signals");
        return ExitCode::from(EXIT_START);
    };
    let is_shared = options.postgres().is_ok_and(|place| place.is_some());
    let node = options.node_id.unwrap_or(1);
    let place = options.bucket.clone().unwrap_or_else(|| options.data.display().to_string());
    let app = tokio::select! {
        started = App::start(options) => match started {
            Ok(app) => app,
            Err(error) => {
                let text = error.to_string();
                eprintln!("streamhouse: {text}{}", remarks.blame(&text));
                return ExitCode::from(EXIT_START);
            }
        },
        () = either(&mut terminate, &mut interrupt) => return ExitCode::from(EXIT_HURRIED),
    };
    greet(&app, &place);
    tokio::select! {
        () = either(&mut terminate, &mut interrupt) => {}
        why = app.ended() => {
            // The state stands still: answering from it would be wrong.
            let (text, code) = match why {
                SubmitError::Fenced(_) if is_shared => (format!(
                    "another gateway with node id {node} has joined the cluster; this one ends and acknowledges nothing more: \
                     give each gateway an id of its own (--node-id), or none"
                ), EXIT_FENCED),
                SubmitError::Fenced(session) => (format!(
                    "another gateway has taken over this journal; this one ends and acknowledges nothing more (its \
                     session {session} is fenced)"
                ), EXIT_FENCED),
                why => (why.to_string(), EXIT_START),
            };
            tracing::error!(why = text, "the metadata ended; stopping");
            eprintln!("streamhouse: {text}");
            app.stop().await;
            return ExitCode::from(code);
        }
    }
    tracing::info!("stopping: answering what is in flight; a second signal ends at once");
    tokio::select! {
        () = app.stop() => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        () = either(&mut terminate, &mut interrupt) => ExitCode::from(EXIT_HURRIED),
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// What a new user needs to know, on standard output, once.
fn greet(app: &App, place: &str) {
    println!("StreamHouse {} is ready.", env!("CARGO_PKG_VERSION"));
    for door in &app.doors {
        let name = if app.doors.len() > 1 { format!("   ({})", door.name) } else { String::new() };
        println!("  Kafka clients   bootstrap.servers={}{name}", door.advertised);
    }
    let at = app.doors.first().map(|door| door.advertised.to_string()).unwrap_or_default();
    println!("  records in      {place}");
    println!("  console         http://{}/", app.admin_address);
    println!("Try it:");
    println!("  echo hello | kcat -b {at} -P -t greetings");
    println!("  kcat -b {at} -C -t greetings -o beginning -e");
    for door in &app.doors {
        let (listening, advertised) = (door.address, &door.advertised);
        tracing::info!(listener = door.name, %listening, %advertised, cluster = %app.cluster_id, "ready");
    }
}

fn log_to_stderr(options: &Options) -> Result<(), String> {
    let filter = EnvFilter::try_new(&options.log).map_err(|e| e.to_string())?;
    // Colours are for eyes: not in the log of a container or a file.
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(|e| e.to_string())
}
