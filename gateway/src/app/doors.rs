//! Binds the listeners and settles what the clients of each are told.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use metadata::command::AdvertisedListener;

use super::AppError;
use crate::net::listener::Listener;
use crate::options::listeners::{HostPort, ListenerOption};

/// One listener that is open.
#[derive(Debug, Clone)]
pub struct Door {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its clients are told to connect.
    pub advertised: HostPort,
}

impl Door {
    /// As the journal keeps it.
    pub fn told(&self) -> AdvertisedListener {
        let HostPort { host, port } = self.advertised.clone();
        AdvertisedListener { name: self.name.clone(), host, port }
    }
}

/// Takes every address, or none: what was bound before a failure is let go.
///
/// # Errors
/// For the first address that cannot be had.
pub async fn open(wanted: &[ListenerOption]) -> Result<(Vec<Listener>, Vec<Door>), AppError> {
    let (mut listeners, mut doors) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
    for option in wanted {
        let (listener, address) = bind(option).await.map_err(|source| AppError::Listen {
            address: option.bind.to_string(),
            what: "Kafka clients",
            flag: "--listen",
            source,
        })?;
        doors.push(Door { name: option.name.clone(), address, advertised: advertised(option, address) });
        listeners.push(listener);
    }
    Ok((listeners, doors))
}

async fn bind(option: &ListenerOption) -> io::Result<(Listener, SocketAddr)> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses(&option.bind).await? {
        match Listener::bind(address, &option.name).and_then(|l| l.local_address().map(|bound| (l, bound))) {
            Ok(bound) => return Ok(bound),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// What to try, in this order. Every address means those of both families, or of IPv4 where there is no other.
async fn addresses(place: &HostPort) -> io::Result<Vec<SocketAddr>> {
    let HostPort { host, port } = place;
    let ip = |ip: IpAddr| SocketAddr::new(ip, *port);
    if host.is_empty() {
        return Ok(vec![ip(Ipv6Addr::UNSPECIFIED.into()), ip(Ipv4Addr::UNSPECIFIED.into())]);
    }
    if host == "localhost" {
        return Ok(vec![ip(Ipv4Addr::LOCALHOST.into())]);
    }
    Ok(tokio::net::lookup_host((host.as_str(), *port)).await?.collect())
}

/// What clients are told: what the user said, else where it listens. A wildcard is no address to connect to.
fn advertised(option: &ListenerOption, bound: SocketAddr) -> HostPort {
    if let Some(HostPort { host, port }) = option.advertised.clone() {
        return HostPort { host, port: if port == 0 { bound.port() } else { port } };
    }
    if bound.ip().is_unspecified() {
        tracing::warn!(
            listener = option.name,
            "listening on every address, but clients are told `localhost`; set --advertise host:port for others"
        );
        return HostPort { host: "localhost".into(), port: bound.port() };
    }
    let is_name = option.bind.host != "localhost" && option.bind.host.parse::<IpAddr>().is_err();
    let host = if is_name { option.bind.host.clone() } else { bound.ip().to_string() };
    HostPort { host, port: bound.port() }
}
