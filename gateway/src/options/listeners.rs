//! Where Kafka clients are served and what they are told: `listen` and `advertise`, each one address or several by name.
//!
//! `HOST:PORT` is one listener called `PLAINTEXT`; `INSIDE://:9092,OUTSIDE://:19092` are two, and a client is told the
//! addresses of the listener it came in by. Written as Kafka writes `listeners` and `advertised.listeners`.

use std::fmt;
use std::net::IpAddr;

use super::load::OptionsError;

/// Name of a listener that was given none.
pub const DEFAULT_NAME: &str = "PLAINTEXT";
/// Most listeners of one gateway.
const LISTENERS_MAX: usize = 16;

/// A host and a port as somebody wrote them; nothing is resolved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address, without brackets; empty for every address of this machine.
    pub host: String,
    /// The port; 0 lets the system choose where one listens.
    pub port: u16,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerOption {
    /// Its name, in capitals as Kafka shows it.
    pub name: String,
    /// Where it listens.
    pub bind: HostPort,
    /// What its clients are told; where it listens if not set.
    pub advertised: Option<HostPort>,
}

impl HostPort {
    /// Reads `host:port`, `[v6]:port` or `:port`.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').filter(|v6| v6.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()))?,
            None if host.contains(':') => return None,
            None => host,
        };
        let legal = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        host.chars().all(legal).then(|| Self { host: host.to_owned(), port })
    }

    /// Whether it stands for every address, so that no client could be told it.
    pub fn is_wildcard(&self) -> bool {
        self.host.is_empty() || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The listeners that `listen` and `advertise` describe, in the order of `listen`; at least one.
pub fn listeners(listen: &str, advertise: Option<&str>) -> Result<Vec<ListenerOption>, OptionsError> {
    let binds = entries("listen", listen)?;
    let mut told = match advertise {
        Some(text) => entries("advertise", text)?,
        None => Vec::new(),
    };
    if let Some((_, place)) = told.iter().find(|(_, place)| place.is_wildcard()) {
        return Err(wrong("advertise", format!("`{place}` must be host:port: clients are told it and connect there")));
    }
    let mut found: Vec<ListenerOption> = Vec::with_capacity(binds.len());
    let single = binds.len() == 1;
    for (name, bind) in binds {
        let name = name.unwrap_or_else(|| DEFAULT_NAME.to_owned());
        let is_its = |other: &Option<String>| other.as_ref().map_or(single, |other| *other == name);
        let advertised = told.iter().position(|(other, _)| is_its(other)).map(|at| told.remove(at).1);
        if advertise.is_some() && advertised.is_none() {
            return Err(wrong("advertise", format!("names no address for listener {name}; write {name}://host:port")));
        }
        if found.iter().any(|other| other.name == name) {
            return Err(wrong("listen", format!("has two listeners called {name}; write NAME://host:port for each")));
        }
        found.push(ListenerOption { name, bind, advertised });
    }
    if let Some((name, place)) = told.first() {
        let name = name.as_deref().unwrap_or(DEFAULT_NAME);
        return Err(wrong("advertise", format!("`{place}` belongs to listener {name}, which `listen` does not have")));
    }
    Ok(found)
}

type Entry = (Option<String>, HostPort);

fn entries(key: &str, text: &str) -> Result<Vec<Entry>, OptionsError> {
    let parts: Vec<_> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() || parts.len() > LISTENERS_MAX {
        return Err(wrong(key, format!("must be 1 to {LISTENERS_MAX} of host:port or NAME://host:port")));
    }
    parts.into_iter().map(|part| entry(key, part)).collect()
}

fn entry(key: &str, part: &str) -> Result<Entry, OptionsError> {
    let (name, address) = match part.split_once("://") {
        Some((name, address)) => (Some(name.to_uppercase()), address),
        None => (None, part),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.as_ref().is_some_and(|name| name.is_empty() || !name.chars().all(legal)) {
        return Err(wrong(key, format!("`{part}` has no legal listener name before ://")));
    }
    let place = HostPort::parse(address)
        .ok_or_else(|| wrong(key, format!("`{part}` must be host:port, such as 127.0.0.1:9092")))?;
    Ok((name, place))
}

fn wrong(key: &str, reason: String) -> OptionsError {
    OptionsError::Value { key: key.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(listen: &str, advertise: Option<&str>) -> String {
        let found = listeners(listen, advertise).unwrap();
        let shown = found.iter().map(|l| {
            let told = l.advertised.as_ref().map(|a| format!(" as {a}")).unwrap_or_default();
            format!("{} {}{told}", l.name, l.bind)
        });
        shown.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn one_without_a_name() {
        assert_eq!(read("127.0.0.1:9092", None), "PLAINTEXT 127.0.0.1:9092");
        assert_eq!(read("[::1]:0", Some("kafka:9092")), "PLAINTEXT [::1]:0 as kafka:9092");
        assert_eq!(read(":9092", Some("k:1, ")), "PLAINTEXT :9092 as k:1");
        assert_eq!(read("h:1", Some("PLAINTEXT://k:1")), "PLAINTEXT h:1 as k:1");
    }

    #[test]
    fn several_by_name() {
        let told = "outside://localhost:29092,INSIDE://kafka:9092";
        assert_eq!(
            read("INSIDE://:9092,OUTSIDE://0.0.0.0:29092", Some(told)),
            "INSIDE :9092 as kafka:9092; OUTSIDE 0.0.0.0:29092 as localhost:29092"
        );
        assert_eq!(read("A://h:1", Some("x:2")), "A h:1 as x:2", "one address for the one listener");
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        for (listen, advertise, words) in [
            ("nowhere", None, "`listen`"),
            ("", None, "`listen`"),
            ("a:b:1", None, "`listen`"),
            ("://h:1", None, "listener name"),
            ("A://h:1,A://h:2", None, "two listeners called A"),
            ("h:1,h:2", None, "two listeners called PLAINTEXT"),
            ("A://h:1,B://h:2", Some("A://x:1"), "no address for listener B"),
            ("A://h:1", Some("A://x:1,B://x:2"), "listener B, which `listen` does not have"),
            ("h:1", Some("0.0.0.0:1"), "host:port"),
            ("h:1", Some("host"), "host:port"),
            ("h:1", Some(":1"), "host:port"),
        ] {
            let message = listeners(listen, advertise).unwrap_err().to_string();
            assert!(message.contains(words), "{listen} {advertise:?}: {message}");
        }
    }
}
