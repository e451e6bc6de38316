//! How many connections there may be: in all, and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The caps and the counts. Cheap to clone; clones share the counts.
#[derive(Debug, Clone)]
pub struct Permits {
    counts: Arc<Mutex<Counts>>,
    total: usize,
    per_address: usize,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The right to one connection; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    counts: Arc<Mutex<Counts>>,
    address: IpAddr,
}

/// Why a connection is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The gateway serves as many connections as it may.
    #[error("{0} connections are open already")]
    Total(usize),
    /// The address has as many connections as it may.
    #[error("{0} connections from its address are open already")]
    Address(usize),
}

impl Permits {
    /// At most `total` connections, `per_address` from one IPv4 address or one IPv6 /64.
    pub fn new(total: usize, per_address: usize) -> Self {
        Self { counts: Arc::default(), total, per_address }
    }

    /// The right to a connection from this address.
    ///
    /// # Errors
    /// When there are as many as there may be.
    pub fn take(&self, address: IpAddr) -> Result<Permit, Full> {
        let address = neighbourhood(address);
        let mut counts = lock(&self.counts);
        if counts.total >= self.total {
            return Err(Full::Total(counts.total));
        }
        let here = counts.by_address.entry(address).or_default();
        if *here >= self.per_address {
            return Err(Full::Address(*here));
        }
        *here += 1;
        counts.total += 1;
        Ok(Permit { counts: Arc::clone(&self.counts), address })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.total -= 1;
        if let Some(here) = counts.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// Counts cannot be left half changed, so a panic elsewhere does not spoil them.
fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A subscriber owns a whole IPv6 /64, but one IPv4 address.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_caps_hold_and_are_given_back() {
        let permits = Permits::new(3, 2);
        let first = permits.take(ip("10.0.0.1")).unwrap();
        let _second = permits.take(ip("::ffff:10.0.0.1")).unwrap();
        assert_eq!(permits.take(ip("10.0.0.1")).unwrap_err(), Full::Address(2));
        let _third = permits.take(ip("10.0.0.2")).unwrap();
        assert_eq!(permits.take(ip("10.0.0.3")).unwrap_err(), Full::Total(3));
        drop(first);
        let _again = permits.take(ip("10.0.0.1")).unwrap();
    }

    #[test]
    fn one_ipv6_subscriber_is_one_address() {
        let permits = Permits::new(9, 1);
        let held = permits.take(ip("2001:db8:0:1::1")).unwrap();
        assert!(permits.take(ip("2001:db8:0:1:ffff::2")).is_err());
        assert!(permits.take(ip("2001:db8:0:2::1")).is_ok());
        drop(held);
        assert!(lock(&permits.counts).by_address.is_empty());
    }
}
