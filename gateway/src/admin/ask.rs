//! Asks the admin listener of a running gateway, for the commands of `streamhouse` that show what it tells.

use std::io::{Error, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// A gateway that is there answers sooner.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer that is taken, bytes.
const ANSWER_MAX_BYTES: u64 = 16 << 20;

/// The body of what a gateway answers to a GET of `path`. Blocks, for ten seconds at most.
pub fn ask(admin: &str, path: &str) -> Result<String, Error> {
    let address = admin.to_socket_addrs()?.next().ok_or_else(|| Error::other("no such address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Of version 1.0, so that the answer comes in one piece and ends with the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX_BYTES).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| Error::other("no answer of HTTP"))?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status == "200" { Ok(body.to_owned()) } else { Err(Error::other(format!("it answers {status}"))) }
}
