//! `streamhouse`: parse, validate, run.

use std::process::ExitCode;

use clap::Parser;
use gateway::admin::ask::ask;
use gateway::app::App;
use gateway::cli::{Cli, Command, list_options};
use gateway::options::{LogFormat, Options};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The configuration is wrong; nothing was started.
const EXIT_OPTIONS: u8 = 2;
/// The gateway could not be started.
const EXIT_START: u8 = 1;
/// A second signal ended the process before everything was flushed.
const EXIT_HURRIED: u8 = 130;

fn main() -> ExitCode {
    metadata::failpoint::arm_from_env();
    let cli = Cli::parse();
    if cli.list_options {
        print!("{}", list_options());
        return ExitCode::SUCCESS;
    }
    if let Some(Command::Cost { admin }) = &cli.command {
        return show(admin, "/cost");
    }
    let options = match cli.options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("streamhouse: {error}");
            return ExitCode::from(EXIT_OPTIONS);
        }
    };
    if let Err(error) = log_to_stderr(&options) {
        eprintln!("streamhouse: option `log`: {error}");
        return ExitCode::from(EXIT_OPTIONS);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("streamhouse").build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("streamhouse: cannot start threads: {error}");
            return ExitCode::from(EXIT_START);
        }
    };
    runtime.block_on(run(options))
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

async fn run(options: Options) -> ExitCode {
    let signals = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    let Ok((mut terminate, mut interrupt)) = signals else {
        eprintln!("streamhouse: cannot listen for signals");
        return ExitCode::from(EXIT_START);
    };
    let place = options.bucket.clone().unwrap_or_else(|| options.data.display().to_string());
    let app = tokio::select! {
        started = App::start(options) => match started {
            Ok(app) => app,
            Err(error) => {
                eprintln!("streamhouse: {error}");
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
            tracing::error!(%why, "the metadata ended; stopping");
            eprintln!("streamhouse: {why}");
            app.stop().await;
            return ExitCode::from(EXIT_START);
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
    let at = format!("{}:{}", app.advertised.0, app.advertised.1);
    println!("StreamHouse {} is ready.", env!("CARGO_PKG_VERSION"));
    println!("  Kafka clients   bootstrap.servers={at}");
    println!("  records in      {place}");
    println!("  admin           http://{}/metrics", app.admin_address);
    println!("Try it:");
    println!("  echo hello | kcat -b {at} -P -t greetings");
    println!("  kcat -b {at} -C -t greetings -o beginning -e");
    tracing::info!(listening = %app.address, advertised = %at, cluster = %app.cluster_id, "ready");
}

fn log_to_stderr(options: &Options) -> Result<(), String> {
    let filter = EnvFilter::try_new(&options.log).map_err(|e| e.to_string())?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(|e| e.to_string())
}
