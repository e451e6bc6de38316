//! The command line: a few flags for what most people set, `--set` for everything else.

use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};
use toml::Table;

use crate::options::Options;
use crate::options::kafka_env::{self, Properties, Remarks, Surroundings, Translated};
use crate::options::load::{OptionsError, Origins, documented, load};
use crate::survey::parse_time;

/// A Kafka-compatible gateway that keeps every record in S3.
///
/// Without options it serves on 127.0.0.1:9092 and keeps everything in ./data. Point any Kafka client at it.
#[derive(Debug, Parser)]
#[command(name = "streamhouse", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// TOML file with options; flags and environment win over it
    #[arg(long, env = "STREAMHOUSE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read Kafka's own server.properties; everything else wins over it
    #[arg(long, env = "STREAMHOUSE_PROPERTIES", value_name = "FILE")]
    properties: Option<PathBuf>,
    /// Obey the environment and files of Kafka's container images (KAFKA_*, KAFKA_CFG_*); docs/drop-in.md
    #[arg(long, env = "STREAMHOUSE_KAFKA_ENV", value_parser = BoolishValueParser::new())]
    kafka_env: bool,
    /// Address for Kafka clients; several as NAME://HOST:PORT,... [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// What clients are told to connect to [default: the listen address]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Folder of what is not in the bucket: the sqlite journal, and the objects without --bucket [default: ./data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Keep the objects in this bucket, as s3://name or s3://name/prefix
    #[arg(long, value_name = "URL")]
    bucket: Option<String>,
    /// URL of an S3-compatible server [default: AWS]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Region of the bucket [default: from the AWS environment, else us-east-1]
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// Where the journal is kept: object (in the bucket), sqlite (in the data folder), or postgres://USER:PASSWORD@HOST/DATABASE
    /// for a cluster of gateways [default: object with --bucket]
    #[arg(long, value_name = "PLACE")]
    journal: Option<String>,
    /// realtime, balanced or throughput: latency against number of PUTs [default: balanced]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Broker id shown to clients [default: 1; in a cluster the lowest that is free]
    #[arg(long, value_name = "N")]
    node_id: Option<String>,
    /// Zone of this gateway
    #[arg(long, value_name = "NAME")]
    rack: Option<String>,
    /// Address for the console, /live, /ready and /metrics [default: 127.0.0.1:9464]
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// What is logged: a level, or module=level,... [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Any other option, such as --set kafka.num.partitions=3; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Print every option with its meaning and default, and exit
    #[arg(long)]
    pub list_options: bool,
    /// Check the configuration, files and environment included, and exit: 0 if it can be served, 2 if not
    #[arg(long)]
    pub check: bool,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program does besides serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show what a running gateway asks of its bucket, and what that costs
    Cost {
        /// Address of its admin listener
        #[arg(long, env = "STREAMHOUSE_ADMIN", value_name = "HOST:PORT", default_value = "127.0.0.1:9464")]
        admin: String,
    },
    /// Make a lost journal again from the bucket, or go back to an earlier time
    Restore(RestoreArgs),
    /// Read and check every stored byte, and tell what nothing refers to
    Scrub(ScrubArgs),
    /// Ask a running gateway whether it takes clients; exit code 0 if it does. Made for container health checks
    Health {
        /// Address of its admin listener
        #[arg(long, env = "STREAMHOUSE_ADMIN", value_name = "HOST:PORT", default_value = "127.0.0.1:9464")]
        admin: String,
    },
}

/// Where a cluster is kept.
#[derive(Debug, Clone, Args)]
pub struct PlaceArgs {
    /// The bucket, as s3://name or s3://name/prefix
    #[arg(long = "from", visible_alias = "bucket", value_name = "URL")]
    from: Option<String>,
    /// URL of an S3-compatible server [default: AWS]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Region of the bucket [default: from the AWS environment, else us-east-1]
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// Folder of the journal, and of the objects when there is no bucket [default: ./data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// What is logged: a level, or module=level,... [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

/// See [`Command::Restore`].
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The state of this time (UTC, such as 2026-11-21T23:59:59Z) instead of the newest
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub at: Option<i64>,
    /// Where the journal is to be kept: object (in the bucket), sqlite (in the data folder), or postgres://...
    /// [default: where it was]
    #[arg(long, value_name = "PLACE")]
    journal: Option<String>,
}

/// See [`Command::Scrub`].
#[derive(Debug, Clone, Args)]
pub struct ScrubArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Read the journal there, as postgres://USER:PASSWORD@HOST/DATABASE, instead of its copies in the bucket
    #[arg(long, value_name = "PLACE")]
    journal: Option<String>,
}

impl ScrubArgs {
    /// The options that say the same.
    pub fn options(&self) -> Result<Options, OptionsError> {
        self.place.options(self.journal.as_ref())
    }
}

impl PlaceArgs {
    /// The options that say the same.
    fn options(&self, journal: Option<&String>) -> Result<Options, OptionsError> {
        let flags = [
            ("bucket", self.from.as_ref()),
            ("endpoint", self.endpoint.as_ref()),
            ("region", self.region.as_ref()),
            ("data", self.data.as_ref()),
            ("journal", journal),
            ("log", self.log.as_ref()),
        ];
        let flags = flags.into_iter().filter_map(|(key, value)| Some((key, value?.clone()))).collect();
        let (options, _) = load((Table::new(), Origins::new()), None, std::env::vars(), &[], flags)?;
        Ok(options)
    }
}

impl RestoreArgs {
    /// The options that say the same. A restore is from a bucket.
    pub fn options(&self) -> Result<Options, OptionsError> {
        let options = self.place.options(self.journal.as_ref())?;
        if options.bucket.is_none() {
            let reason = "a journal is restored from a bucket: add --from s3://name".to_owned();
            return Err(OptionsError::Value { key: "bucket".into(), reason });
        }
        Ok(options)
    }
}

const AFTER_HELP: &str = "\
Every option can also be set as STREAMHOUSE_<NAME> in the environment (STREAMHOUSE_NODE_ID=2) or in the --config file.
S3 credentials come from the usual AWS places: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, profiles, instance roles.

Try it:
  streamhouse &
  echo hello | kcat -b 127.0.0.1:9092 -P -t greetings
  kcat -b 127.0.0.1:9092 -C -t greetings -e";

impl Cli {
    /// Lays files, environment and flags over each other and checks the result. The remarks are for the log.
    pub fn options(&self) -> Result<(Options, Remarks), OptionsError> {
        let flags = [
            ("listen", &self.listen),
            ("advertise", &self.advertise),
            ("data", &self.data),
            ("bucket", &self.bucket),
            ("endpoint", &self.endpoint),
            ("region", &self.region),
            ("journal", &self.journal),
            ("storage.profile", &self.profile),
            ("node-id", &self.node_id),
            ("rack", &self.rack),
            ("admin", &self.admin),
            ("log", &self.log),
            ("log-format", &self.log_format),
        ];
        let flags = flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect();
        let Translated { table, mut remarks } = self.kafkas_own().map_err(with_variable)?;
        let base = (table, std::mem::take(&mut remarks.origins));
        let loaded = load(base, self.config.as_deref(), std::env::vars(), &self.sets, flags);
        let (options, origins) = loaded.map_err(with_variable)?;
        remarks.origins = origins;
        remarks.warnings.extend(kafka_env::data_of_a_broker(&options.data));
        Ok((options, remarks))
    }

    /// What Kafka's own configuration says, if it is to be read at all.
    fn kafkas_own(&self) -> Result<Translated, OptionsError> {
        let mut usual = kafka_env::USUAL_FILES.iter().map(Path::new).filter(|_| self.kafka_env);
        let file = self.properties.as_deref().or_else(|| usual.find(|path| path.is_file()));
        let mut properties = Properties::new();
        if let Some(path) = file {
            let shown = path.display().to_string();
            let text =
                std::fs::read_to_string(path).map_err(|source| OptionsError::File { path: shown.clone(), source })?;
            properties = kafka_env::from_file(&text, &shown);
        }
        if self.kafka_env {
            properties.extend(kafka_env::from_env(std::env::vars()));
        } else if file.is_none() {
            return Ok(Translated::default());
        }
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let host = read("/proc/sys/kernel/hostname").trim().to_owned();
        let around = Surroundings {
            host: if host.is_empty() { "localhost".into() } else { host },
            mounts: read("/proc/self/mountinfo"),
            image: self.kafka_env,
        };
        kafka_env::translate(&properties, &around)
    }
}

/// A file that cannot be read is named with the variable that named it.
fn with_variable(error: OptionsError) -> OptionsError {
    let OptionsError::File { mut path, source } = error else { return error };
    let is_its = |variable: &&&str| std::env::var(variable).is_ok_and(|value| value == path);
    if let Some(variable) = ["STREAMHOUSE_CONFIG", "STREAMHOUSE_PROPERTIES"].iter().find(is_its) {
        path = format!("{path} ({variable})");
    }
    OptionsError::File { path, source }
}

/// One line for a flag's value that stood in its variable, not on the command line: whoever wrote it knows no flag.
pub fn of_variable(
    error: &clap::Error,
    variable: impl Fn(&str) -> Option<String>,
    mut words: impl Iterator<Item = String>,
) -> Option<String> {
    let (ErrorKind::InvalidValue | ErrorKind::ValueValidation) = error.kind() else { return None };
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = shown.split(' ').next()?;
    let name = format!("STREAMHOUSE_{}", flag.strip_prefix("--")?.replace('-', "_").to_uppercase());
    let value = variable(&name).filter(|_| !words.any(|word| word.starts_with(flag)))?;
    Some(format!("{name}: `{value}` is not a value that --help allows for {flag}"))
}

/// The list that `--list-options` prints.
pub fn list_options() -> String {
    let lines = documented().into_iter().map(|option| {
        let default = option.default.map(|d| format!(" [default: {d}]")).unwrap_or_default();
        format!("{}\n    {}{default}\n", option.key, option.doc)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_of_a_flag_names_the_variable_it_stood_in() {
        let wrong = Cli::try_parse_from(["streamhouse", "--config="]).unwrap_err();
        let said = |name: &str, word: &str| {
            let variable = |asked: &str| (asked == name).then(String::new);
            of_variable(&wrong, variable, std::iter::once(word.to_owned()))
        };
        let line = said("STREAMHOUSE_CONFIG", "health").unwrap();
        assert!(line.starts_with("STREAMHOUSE_CONFIG: ") && !line.contains('\n'), "{line}");
        assert_eq!(said("STREAMHOUSE_CONFIG", "--config="), None, "it stands on the command line");
        assert_eq!(said("STREAMHOUSE_DATA", "health"), None);
    }
}
