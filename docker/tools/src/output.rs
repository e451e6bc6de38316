//! What a command is, where its words go, and how it ends.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;

use crate::client::Failure;
use crate::flags::{self, Flag, Flags};

/// The version of Kafka whose tools these follow.
const VERSION: &str = "4.2.1";
/// Of a command that cannot do what it was asked.
const FAILED: u8 = 1;

/// Standard output. Commands write whole lines; what is left is written when they end.
pub type Out = BufWriter<StdoutLock<'static>>;

/// A command.
pub struct Command {
    /// What it is called, without `.sh`.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// The flags it knows.
    pub flags: &'static [Flag],
    /// Runs it.
    pub run: fn(&Flags, &mut Out) -> Result<(), End>,
    /// How it says what the cluster refused.
    pub failed: fn(&Failure) -> End,
    /// How it says a mistake in a flag.
    pub wrong_flag: fn(String) -> End,
}

/// Why a command ends before its work is done.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The flags do not go together: said on standard error, with the table of flags.
    #[error("{0}")]
    Usage(String),
    /// Said on standard error as it is.
    #[error("{0}")]
    Said(String),
    /// Said on standard output as it is.
    #[error("{0}")]
    Printed(String),
    /// What the cluster answered, or why it did not; each command says it in its own way.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// Nobody reads standard output.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    /// With this code, everything being said.
    #[error("ended with {0}")]
    Code(u8),
}

impl End {
    /// Of a mistake that Kafka's tools answer with their usage.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }
}

/// Runs a command to its end.
pub fn run(command: &'static Command, words: &[String]) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let ended = parsed(command, words, &mut out);
    let flushed = out.flush();
    match ended.and_then(|()| Ok(flushed?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(End::Code(code)) => ExitCode::from(code),
        Err(end) => say(command, end),
    }
}

fn parsed(command: &'static Command, words: &[String], out: &mut Out) -> Result<(), End> {
    let flags = Flags::parse(command.flags, words).map_err(|text| (command.wrong_flag)(text))?;
    if flags.has("help") || (words.is_empty() && !command.flags.is_empty()) {
        eprintln!("{}", command.about);
        eprint!("{}", flags::table(command.flags));
        // Asked for, it is no mistake; but the tools of Kafka end with 1 either way.
        return Err(End::Code(FAILED));
    }
    if flags.has("version") {
        writeln!(out, "{VERSION}")?;
        return Ok(());
    }
    (command.run)(&flags, out).map_err(|end| match end {
        End::Failed(failure) => (command.failed)(&failure),
        end => end,
    })
}

fn say(command: &Command, end: End) -> ExitCode {
    match end {
        End::Usage(text) => {
            eprintln!("{text}");
            eprint!("{}", flags::table(command.flags));
        }
        End::Printed(text) => println!("{text}"),
        // Whoever closed the pipe has read enough.
        End::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        end => eprintln!("{end}"),
    }
    ExitCode::from(FAILED)
}
