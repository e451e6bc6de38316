//! `kafka-broker-api-versions`: librdkafka does not tell what it was told, so each broker is asked by hand.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use kafka_protocol::messages::ApiKey;

use super::{Command, check_required};
use crate::client::Failure;
use crate::client::native::{Admin, Node};
use crate::client::settings::Settings;
use crate::flags::{Flag, Flags, value};
use crate::output::{End, Out};

/// How long a broker may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read, bytes: some hundred kinds of requests of six bytes each.
const LONGEST_ANSWER: u32 = 64 << 10;
/// Length of an entry of the answer, bytes: key, lowest and highest version.
const ENTRY: usize = 6;
/// What Kafka 4.2's clients know beyond the library: key, name, lowest and highest version.
const NEWER: [(i16, &str, i16, i16); 3] =
    [(2, "ListOffsets", 1, 11), (88, "StreamsGroupHeartbeat", 0, 0), (89, "StreamsGroupDescribe", 0, 0)];
/// Requests that brokers send each other, which Kafka's tool leaves out.
const OF_BROKERS: [i16; 16] = [4, 5, 6, 7, 52, 53, 54, 56, 58, 59, 62, 63, 67, 70, 73, 82];

pub(super) const COMMAND: Command = Command {
    name: "kafka-broker-api-versions",
    about: "This tool helps to retrieve broker version information.",
    flags: FLAGS,
    run,
    failed: |failure| End::Said(failure.to_string()),
    wrong_flag: End::Said,
};

const FLAGS: &[Flag] = &[
    value("bootstrap-server", "REQUIRED: The server to connect to."),
    value("command-config", "Property file with settings of the client."),
];

fn run(flags: &Flags, out: &mut Out) -> Result<(), End> {
    check_required(flags, &["bootstrap-server"])?;
    let settings = Settings::of_flags(flags)?;
    let is_plain =
        settings.config.get("security.protocol").is_none_or(|protocol| protocol.eq_ignore_ascii_case("PLAINTEXT"));
    for node in Admin::new(&settings)?.nodes()? {
        let name = format!("{}:{} (id: {} rack: null isFenced: false)", node.host, node.port, node.id);
        let answer = if is_plain {
            ask(&node)
        } else {
            Err(io::Error::other("only listeners without TLS and SASL can be asked"))
        };
        match answer {
            Ok(versions) => writeln!(out, "{name} -> (\n{}\n)", table(&versions))?,
            Err(error) => writeln!(out, "{name} -> ERROR: {error}")?,
        }
    }
    Ok(())
}

/// The lowest and highest version of each kind of request, by key.
type Versions = BTreeMap<i16, (i16, i16)>;

/// ApiVersions in its version 0, which every broker understands: a length, key 18, version 0, a number, and the name of the client.
fn ask(node: &Node) -> io::Result<Versions> {
    let address = (&*node.host, node.port).to_socket_addrs()?.next().ok_or_else(|| io::Error::other("no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let client = b"kafka-tools";
    let mut request = vec![0, 18, 0, 0, 0, 0, 0, 1, 0, client.len() as u8];
    request.extend(client);
    let mut frame = (request.len() as u32).to_be_bytes().to_vec();
    frame.extend(request);
    stream.write_all(&frame)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LONGEST_ANSWER {
        return Err(io::Error::other("the answer is too long"));
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer)?;
    parse(&answer)
}

/// The number of the request, an error code, and an array of keys with their versions.
fn parse(answer: &[u8]) -> io::Result<Versions> {
    let short = |at: &[u8]| i16::from_be_bytes([at[0], at[1]]);
    let Some((head, entries)) = answer.split_at_checked(10) else {
        return Err(io::Error::other("the answer is too short"));
    };
    let error = short(&head[4..6]);
    if error != 0 {
        return Err(io::Error::other(Failure::of(error.into(), "")));
    }
    let entries = entries.chunks_exact(ENTRY).map(|at| (short(&at[..2]), (short(&at[2..4]), short(&at[4..6]))));
    Ok(entries.collect())
}

/// The name of a kind of request with the lowest and highest version that we know of it.
fn known(key: i16) -> Option<(String, i16, i16)> {
    if let Some((_, name, low, high)) = NEWER.iter().find(|(newer, ..)| *newer == key) {
        return Some(((*name).to_owned(), *low, *high));
    }
    let api = ApiKey::try_from(key).ok()?;
    let versions = api.valid_versions();
    Some((format!("{api:?}"), versions.min, versions.max))
}

fn table(versions: &Versions) -> String {
    let is_shown = |key: &i16| versions.contains_key(key) || (known(*key).is_some() && !OF_BROKERS.contains(key));
    let row = |key: i16| {
        let ours = known(key);
        let name = ours.as_ref().map_or("UNKNOWN", |(name, ..)| name);
        let Some(&(low, high)) = versions.get(&key) else { return format!("\t{name}({key}): UNSUPPORTED") };
        let range = if low == high { low.to_string() } else { format!("{low} to {high}") };
        let usable = match ours {
            Some((_, least, most)) if most.min(high) >= least.max(low) => format!(" [usable: {}]", most.min(high)),
            Some(_) => " [unusable: node too old]".to_owned(),
            None => String::new(),
        };
        format!("\t{name}({key}): {range}{usable}")
    };
    (0..=i16::from(u8::MAX)).filter(is_shown).map(row).collect::<Vec<_>>().join(",\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_and_its_table() {
        let answer = [0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 9, 0, 47, 0, 0, 0, 0];
        let versions = parse(&answer).expect("an answer");
        assert_eq!(versions, Versions::from([(0, (3, 9)), (47, (0, 0))]));
        let table = table(&versions);
        assert!(table.starts_with("\tProduce(0): 3 to 9 [usable: 9],\n\tFetch(1): UNSUPPORTED,\n"), "{table}");
        assert!(table.contains("\tOffsetDelete(47): 0 [usable: 0],\n"), "{table}");
        assert!(!table.contains("LeaderAndIsr"), "{table}");
        assert!(parse(&[0; 9]).is_err());
        assert!(parse(&[0, 0, 0, 1, 0, 35, 0, 0, 0, 0]).is_err());
    }
}
