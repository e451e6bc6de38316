//! What a user can set: one struct, its documentation the help, its defaults the ones in force.
//!
//! The options of a part live beside that part and are sections here. [`Options::validate`] is the one place where values
//! are judged; nothing is opened before it has agreed.

pub mod cost;
pub mod kafka;
pub mod kafka_env;
pub mod listeners;
pub mod load;
pub mod storage;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use ::storage::blob::check_key;
use ::storage::options::WriterOptions;
use metadata::journal::postgres::{PlaceError, PostgresPlace};
use metadata::options::MetadataOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::cost::CostSection;
use self::listeners::ListenerOption;
use self::load::OptionsError;
use self::storage::StorageSection;

/// Everything a gateway is told at start.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// Address and port on which Kafka clients are served. Port 0 lets the system choose. Several listeners by name:
    /// `INSIDE://:9092,OUTSIDE://:19092`.
    pub listen: String,
    /// Host and port that clients are told to connect to; the listen address if not set. With several listeners one for
    /// each, by name: `INSIDE://kafka:9092,OUTSIDE://localhost:19092`.
    pub advertise: Option<String>,
    /// Folder for the journal, and for the objects too when there is no bucket. Made if missing.
    pub data: PathBuf,
    /// Bucket that keeps the objects, as `s3://name/prefix`; without it they lie in the data folder.
    pub bucket: Option<String>,
    /// URL of an S3-compatible server; AWS if not set.
    pub endpoint: Option<String>,
    /// Region of the bucket; the AWS environment or `us-east-1` if not set.
    pub region: Option<String>,
    /// Where the journal is kept: `object` (in the bucket, with the records; nothing on the machine is needed again),
    /// `sqlite` (a file in the data folder), or `postgres://user:password@host/database` for a cluster of any number of
    /// gateways, which share the bucket or the data folder too. Of the URL's options `sslmode` (`disable`, `prefer`, `require`,
    /// `verify-full`), `sslrootcert` and `schema` (`streamhouse` if not set) are known besides libpq's usual ones. `object` if
    /// not set and there is a bucket, else `sqlite`.
    pub journal: Option<String>,
    /// The broker id clients see, and by which a gateway is known in its cluster: of two gateways with one id the newer one
    /// goes on. If not set, 1, or in a cluster the lowest that no living gateway has.
    pub node_id: Option<i32>,
    /// Zone of this gateway, told to clients as its rack.
    pub rack: Option<String>,
    /// Address of the admin listener: the console (a page for browsers), /live, /ready, /metrics and /cost. Loopback only.
    pub admin: String,
    /// Time between two points of the console's plots, ms, 100 to 600000. 360 are kept: with the default, those of an hour.
    pub console_point_ms: u64,
    /// Format of the log: `text` or `json`.
    pub log_format: LogFormat,
    /// What is logged, as `level` or `module=level,...`.
    pub log: String,
    /// Settings by Kafka's broker names, such as `num.partitions`; see the table below.
    pub kafka: BTreeMap<String, String>,
    /// How segments are cut, what is cached, when upkeep runs.
    pub storage: StorageSection,
    /// What the bucket asks for.
    pub cost: CostSection,
    /// The journal, its appender and snapshots.
    pub metadata: MetadataOptions,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9092".into(),
            advertise: None,
            data: "./data".into(),
            bucket: None,
            endpoint: None,
            region: None,
            journal: None,
            node_id: None,
            rack: None,
            admin: "127.0.0.1:9464".into(),
            console_point_ms: 10_000,
            log_format: LogFormat::Text,
            log: "info".into(),
            kafka: BTreeMap::new(),
            storage: StorageSection::default(),
            cost: CostSection::default(),
            metadata: MetadataOptions::default(),
        }
    }
}

/// Where the journal is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalPlace {
    /// A file in the data folder.
    Sqlite,
    /// Objects beside the records.
    Object,
    /// A table that several gateways share.
    Postgres,
}

impl JournalPlace {
    /// As the option says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Object => "object",
            Self::Postgres => "postgres",
        }
    }
}

/// Bucket and prefix of an `s3://` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketUrl {
    /// Name of the bucket.
    pub name: String,
    /// What stands before every key, with a slash between: empty, or without that slash.
    pub prefix: String,
}

impl Options {
    /// Judges every value; the first that cannot be served is refused with its key.
    pub fn validate(&self) -> Result<(), OptionsError> {
        self.listeners()?;
        self.admin_address()?;
        if !(100..=600_000).contains(&self.console_point_ms) {
            return Err(wrong("console-point-ms", "must be 100 to 600000"));
        }
        self.bucket_url()?;
        if self.node_id.is_some_and(|id| id < 0) {
            return Err(wrong("node-id", "must not be negative"));
        }
        if self.endpoint.is_some() && self.bucket.is_none() {
            return Err(wrong("endpoint", "says where a bucket is, but `bucket` is not set; add --bucket s3://name"));
        }
        if self.endpoint.as_ref().is_some_and(|e| !e.starts_with("http://") && !e.starts_with("https://")) {
            return Err(wrong("endpoint", "must start with http:// or https://"));
        }
        self.journal_place()?;
        self.postgres()?;
        self.writer()?;
        if let Some((key, problem)) = self.metadata.problem() {
            return Err(wrong(&format!("metadata.{key}"), &problem));
        }
        kafka::validate(&self.kafka)
    }

    /// How batches become objects.
    pub fn writer(&self) -> Result<WriterOptions, OptionsError> {
        let has_bucket = self.bucket.is_some();
        self.storage.writer(has_bucket, &self.cost.prices(has_bucket)?)
    }

    /// Where the journal is kept.
    pub fn journal_place(&self) -> Result<JournalPlace, OptionsError> {
        match self.journal.as_deref() {
            None if self.bucket.is_some() => Ok(JournalPlace::Object),
            None | Some("sqlite") => Ok(JournalPlace::Sqlite),
            Some("object") => Ok(JournalPlace::Object),
            Some(url) if PostgresPlace::is_url(url) => Ok(JournalPlace::Postgres),
            Some(_) => Err(wrong("journal", "must be `object`, `sqlite` or postgres://user:password@host/database")),
        }
    }

    /// The place of a journal in PostgreSQL, if it is to be there.
    pub fn postgres(&self) -> Result<Option<PostgresPlace>, OptionsError> {
        let url = self.journal.as_deref().filter(|text| PostgresPlace::is_url(text));
        url.map(|url| url.parse().map_err(|error: PlaceError| wrong("journal", &error.to_string()))).transpose()
    }

    /// The numbers of the metadata; where gateways share a journal, they watch each other.
    pub fn metadata(&self) -> Result<MetadataOptions, OptionsError> {
        let shares = self.journal_place()? == JournalPlace::Postgres;
        Ok(if shares { self.metadata.shared() } else { self.metadata.clone() })
    }

    /// Where Kafka clients are served and what they are told, in the user's order; at least one.
    pub fn listeners(&self) -> Result<Vec<ListenerOption>, OptionsError> {
        listeners::listeners(&self.listen, self.advertise.as_deref())
    }

    /// Where the admin listener stands; only loopback, because it is open to whoever reaches it.
    pub fn admin_address(&self) -> Result<SocketAddr, OptionsError> {
        let found = address("admin", &self.admin)?;
        if found.ip().is_loopback() {
            Ok(found)
        } else {
            Err(wrong("admin", "must be a loopback address: the admin listener has no authentication"))
        }
    }

    /// The bucket, if the objects are to lie in one.
    pub fn bucket_url(&self) -> Result<Option<BucketUrl>, OptionsError> {
        let Some(url) = &self.bucket else { return Ok(None) };
        let rest =
            url.strip_prefix("s3://").ok_or_else(|| wrong("bucket", "must look like s3://name or s3://name/prefix"))?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || !name.chars().all(legal) {
            return Err(wrong("bucket", "has no legal bucket name after s3://"));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !prefix.is_empty() && check_key(prefix).is_err() {
            return Err(wrong("bucket", "has a prefix that cannot be part of an object's name"));
        }
        Ok(Some(BucketUrl { name: name.to_owned(), prefix: prefix.to_owned() }))
    }
}

fn address(key: &str, text: &str) -> Result<SocketAddr, OptionsError> {
    let spelled = text.replace("localhost", "127.0.0.1");
    spelled.parse().map_err(|_| wrong(key, &format!("`{text}` is not an address with a port, such as 127.0.0.1:9092")))
}

fn wrong(key: &str, reason: &str) -> OptionsError {
    OptionsError::Value { key: key.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Options), key: &str) {
        let mut options = Options::default();
        change(&mut options);
        let message = options.validate().expect_err("refused").to_string();
        assert!(message.contains(&format!("`{key}`")), "{message}");
    }

    #[test]
    fn defaults_are_valid() {
        Options::default().validate().unwrap();
    }

    #[test]
    fn wrong_values_name_their_key() {
        refused(|o| o.listen = "nowhere".into(), "listen");
        refused(|o| o.admin = "0.0.0.0:1".into(), "admin");
        refused(|o| o.console_point_ms = 0, "console-point-ms");
        refused(|o| o.advertise = Some("host".into()), "advertise");
        refused(|o| o.bucket = Some("name".into()), "bucket");
        for bad in ["s3://", "s3:///x", "s3://b/../x", "s3://b//x", "https://b"] {
            refused(|o| o.bucket = Some(bad.into()), "bucket");
        }
        refused(|o| o.endpoint = Some("http://x".into()), "endpoint");
        refused(|o| o.journal = Some("etcd".into()), "journal");
        refused(|o| o.journal = Some("postgres://db/x".into()), "journal");
        refused(|o| o.journal = Some("postgres://u@db/x?sslmode=never".into()), "journal");
        refused(|o| o.node_id = Some(-1), "node-id");
        refused(|o| o.metadata.snapshot_bytes = 0, "metadata.snapshot-bytes");
        refused(|o| o.storage.uploads_max = 0, "storage.uploads-max");
        refused(|o| drop(o.kafka.insert("num.partition".into(), "1".into())), "kafka.num.partition");
    }

    #[test]
    fn the_journal_follows_the_bucket_unless_told() {
        let place = |bucket: Option<&str>, journal: Option<&str>| {
            let options = Options {
                bucket: bucket.map(str::to_owned),
                journal: journal.map(str::to_owned),
                ..Options::default()
            };
            options.journal_place().unwrap()
        };
        assert_eq!(place(None, None), JournalPlace::Sqlite);
        assert_eq!(place(Some("s3://b"), None), JournalPlace::Object);
        assert_eq!(place(Some("s3://b"), Some("sqlite")), JournalPlace::Sqlite);
        assert_eq!(place(None, Some("object")), JournalPlace::Object);
        assert_eq!(place(Some("s3://b"), Some("postgres://u@h/d")), JournalPlace::Postgres);
    }

    #[test]
    fn bucket_urls() {
        let url =
            |text: &str| Options { bucket: Some(text.into()), ..Options::default() }.bucket_url().unwrap().unwrap();
        assert_eq!(url("s3://b/"), BucketUrl { name: "b".into(), prefix: String::new() });
        assert_eq!(url("s3://b"), BucketUrl { name: "b".into(), prefix: String::new() });
        assert_eq!(url("s3://b/a/c/"), BucketUrl { name: "b".into(), prefix: "a/c".into() });
    }
}
