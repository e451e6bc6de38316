//! What a `postgres://` URL says: where the server is, who we are, how the way there is protected.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// Schema of our tables if the URL names none.
const SCHEMA: &str = "streamhouse";
/// Longest name of a schema; PostgreSQL cuts longer ones off, and the name is our channel's too.
const SCHEMA_MAX_LEN: usize = 63;
/// Longest wait for a connection if the URL sets none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection nothing was heard of for this long is probed, and given up after as long again.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// A URL that cannot be used; the text holds no part of it that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlaceError(String);

/// How the server proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// It need not: the way is encrypted if at all (`disable`, `prefer`, `require`, as libpq has them).
    Anyone,
    /// By a certificate for its name, from one of the system's authorities or of those in this file (`verify-full`).
    Named(Option<PathBuf>),
}

/// A journal's place in a PostgreSQL server.
///
/// The URL is libpq's: `postgres://user:password@host:5432/database?sslmode=verify-full`; several hosts may be named, the one
/// that takes writes is used. Ours is `schema=name`, for several clusters in one database.
#[derive(Clone)]
pub struct PostgresPlace {
    pub(super) config: Config,
    pub(super) trust: Trust,
    /// A plain identifier: lower-case letters, digits, underscores.
    pub(super) schema: String,
}

impl fmt::Debug for PostgresPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hosts and database, without user and password.
impl fmt::Display for PostgresPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        for (at, host) in self.config.get_hosts().iter().enumerate() {
            let port = ports.get(at).or_else(|| ports.first()).copied().unwrap_or(5432);
            let comma = if at > 0 { "," } else { "" };
            match host {
                Host::Tcp(name) if name.contains(':') => write!(f, "{comma}[{name}]:{port}")?,
                Host::Tcp(name) => write!(f, "{comma}{name}:{port}")?,
                Host::Unix(folder) => write!(f, "{comma}{}", folder.display())?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl PostgresPlace {
    /// Whether a text is meant to be such a URL.
    pub fn is_url(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }
}

impl FromStr for PostgresPlace {
    type Err = PlaceError;

    fn from_str(url: &str) -> Result<Self, PlaceError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut rest, mut mode, mut root, mut schema) = (Vec::new(), "prefer", None, SCHEMA);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("sslmode", value) => mode = value,
                ("sslrootcert", value) => root = Some(PathBuf::from(value)),
                ("schema", value) => schema = value,
                _ => rest.push(pair),
            }
        }
        check_schema(schema)?;
        let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        let mut config = Config::from_str(&url).map_err(|error| PlaceError(format!("is not a valid URL: {error}")))?;
        check_whole(&config)?;
        let (ssl_mode, trust) = match mode {
            "disable" => (SslMode::Disable, Trust::Anyone),
            "prefer" => (SslMode::Prefer, Trust::Anyone),
            "require" => (SslMode::Require, Trust::Anyone),
            "verify-full" => (SslMode::Require, Trust::Named(root.take())),
            _ => return Err(wrong("has an sslmode other than disable, prefer, require and verify-full")),
        };
        if root.is_some() {
            return Err(wrong("has an sslrootcert, which only sslmode=verify-full makes use of"));
        }
        config.ssl_mode(ssl_mode).target_session_attrs(TargetSessionAttrs::ReadWrite).keepalives_idle(KEEPALIVE);
        config.tcp_user_timeout(KEEPALIVE);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("streamhouse");
        }
        Ok(Self { config, trust, schema: schema.to_owned() })
    }
}

fn check_schema(schema: &str) -> Result<(), PlaceError> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && !schema.starts_with("pg_");
    match begins && schema.len() <= SCHEMA_MAX_LEN && schema.chars().all(is_plain) {
        true => Ok(()),
        false => Err(wrong("has a schema that is not a plain name of lower-case letters, digits and underscores")),
    }
}

/// What libpq would guess from the machine is asked for instead: a guess would differ between gateways.
fn check_whole(config: &Config) -> Result<(), PlaceError> {
    if config.get_hosts().is_empty() {
        return Err(wrong("names no host: postgres://user:password@host:5432/database"));
    }
    let has_at = |host: &Host| matches!(host, Host::Tcp(name) if name.contains('@'));
    if config.get_hosts().iter().any(has_at) {
        return Err(wrong("has more than one @: write those of the password as %40"));
    }
    if config.get_user().is_none_or(str::is_empty) {
        return Err(wrong("names no user: postgres://user:password@host:5432/database"));
    }
    if config.get_dbname().is_none_or(str::is_empty) {
        return Err(wrong("names no database: postgres://user:password@host:5432/database"));
    }
    Ok(())
}

fn wrong(reason: &str) -> PlaceError {
    PlaceError(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_how() {
        let place: PostgresPlace =
            "postgres://u:p%40ss@db.example:6432/sh?sslmode=verify-full&schema=cell_2".parse().unwrap();
        assert_eq!(place.to_string(), "db.example:6432/sh");
        assert_eq!((place.schema.as_str(), &place.trust), ("cell_2", &Trust::Named(None)));
        assert_eq!(place.config.get_ssl_mode(), SslMode::Require);
        assert_eq!(place.config.get_password(), Some(&b"p@ss"[..]));
        let place: PostgresPlace = "postgresql://u@a,b:2/sh?connect_timeout=9".parse().unwrap();
        assert_eq!((place.config.get_hosts().len(), place.schema.as_str()), (2, "streamhouse"));
        assert_eq!(place.config.get_connect_timeout(), Some(&Duration::from_secs(9)));
        assert_eq!(place.config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }

    #[test]
    fn p7_what_cannot_be_used_is_refused_without_its_secrets() {
        for (url, word) in [
            ("postgres://u:secret@h", "database"),
            ("postgres://:secret@h/d", "user"),
            ("postgres:///d?user=u", "host"),
            ("postgres://u:sec@ret@h/d", "%40"),
            ("postgres://u:secret@h:x/d", "URL"),
            ("postgres://u:secret@h/d?sslmode=verify-ca", "sslmode"),
            ("postgres://u:secret@h/d?sslrootcert=x", "verify-full"),
            ("postgres://u:secret@h/d?schema=A", "schema"),
            ("postgres://u:secret@h/d?schema=pg_x", "schema"),
            ("postgres://u:secret@h/d?shema=x", "URL"),
        ] {
            let error = url.parse::<PostgresPlace>().expect_err(url).to_string();
            assert!(error.contains(word) && !error.contains("sec"), "{url}: {error}");
        }
        let place: PostgresPlace = "postgres://user:secret@h/d".parse().unwrap();
        assert_eq!(format!("{place:?} {place}"), "h:5432/d h:5432/d");
    }
}
