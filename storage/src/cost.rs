//! What the store costs: prices, and money as counts times prices. Pure.

use serde::Deserialize;

use crate::blob::Operation;
use crate::blob::measured::{Tally, Usage};
use crate::blob::purpose::Purpose;

/// Bytes of a GB as stores bill it.
pub const GB_BYTES: f64 = (1_u64 << 30) as f64;
/// Seconds of a month as stores bill it: 730 hours.
pub const MONTH_SECONDS: f64 = 730.0 * 3_600.0;

/// What a store asks for, USD.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Prices {
    /// For 1,000 PUT, LIST or multipart requests.
    pub put_per_1000: f64,
    /// For 1,000 GET or HEAD requests.
    pub get_per_1000: f64,
    /// For a GB kept a month.
    pub storage_gb_month: f64,
    /// For a GB sent to the store.
    pub upload_gb: f64,
    /// For a GB read from the store.
    pub download_gb: f64,
}

impl Prices {
    /// S3 Standard, us-east-1, read from the same region.
    pub const STANDARD: Self =
        Self { put_per_1000: 0.005, get_per_1000: 0.000_4, storage_gb_month: 0.023, upload_gb: 0.0, download_gb: 0.0 };
    /// S3 Express One Zone, us-east-1.
    pub const EXPRESS: Self = Self {
        put_per_1000: 0.001_13,
        get_per_1000: 0.000_03,
        storage_gb_month: 0.11,
        upload_gb: 0.003_2,
        download_gb: 0.000_6,
    };
    /// A folder, or a server of one's own.
    pub const FREE: Self =
        Self { put_per_1000: 0.0, get_per_1000: 0.0, storage_gb_month: 0.0, upload_gb: 0.0, download_gb: 0.0 };

    /// The prices a word stands for.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "s3-standard" => Some(Self::STANDARD),
            "s3-express" => Some(Self::EXPRESS),
            "free" => Some(Self::FREE),
            _ => None,
        }
    }

    /// One request of an operation, USD.
    pub fn per_request(&self, operation: Operation) -> f64 {
        match operation {
            Operation::Put | Operation::PutNew | Operation::PutPart | Operation::List => self.put_per_1000 / 1_000.0,
            Operation::Get | Operation::GetRange | Operation::Head => self.get_per_1000 / 1_000.0,
            Operation::Delete | Operation::Abort => 0.0,
        }
    }

    /// One byte of an operation's payload, USD.
    pub fn per_byte(&self, operation: Operation) -> f64 {
        match operation {
            Operation::Put | Operation::PutNew | Operation::PutPart => self.upload_gb / GB_BYTES,
            Operation::Get | Operation::GetRange => self.download_gb / GB_BYTES,
            Operation::Head | Operation::List | Operation::Delete | Operation::Abort => 0.0,
        }
    }

    /// Requests and bytes of one operation, USD.
    pub fn of(&self, operation: Operation, tally: Tally) -> f64 {
        tally.requests as f64 * self.per_request(operation) + tally.bytes as f64 * self.per_byte(operation)
    }

    /// Everything that was done for one purpose, USD.
    pub fn of_purpose(&self, usage: &Usage, purpose: Purpose) -> f64 {
        Operation::ALL.iter().map(|&operation| self.of(operation, usage.get(operation, purpose))).sum()
    }

    /// Everything that was done, USD.
    pub fn of_all(&self, usage: &Usage) -> f64 {
        Purpose::ALL.iter().map(|&purpose| self.of_purpose(usage, purpose)).sum()
    }

    /// Keeping bytes for a month, USD.
    pub fn of_storage(&self, bytes: u64) -> f64 {
        bytes as f64 / GB_BYTES * self.storage_gb_month
    }

    /// How many PUTs a second so much money a month buys; without end where they cost nothing.
    pub fn puts_per_second(&self, usd_per_month: f64) -> f64 {
        let put = self.per_request(Operation::Put);
        if put > 0.0 { usd_per_month / put / MONTH_SECONDS } else { f64::INFINITY }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-9)
    }

    #[test]
    fn prices_of_known_workloads() {
        // A PUT every 8 MiB at 1 GiB/s for a month, as providers reckon it.
        let mut usage = Usage::default();
        let puts = (128.0 * MONTH_SECONDS) as u64;
        usage.add(Operation::Put, Purpose::Produce, Tally { requests: puts, bytes: puts * (8 << 20) });
        assert_eq!(Prices::STANDARD.of_all(&usage).round(), 1682.0);
        assert_eq!(Prices::FREE.of_all(&usage), 0.0);
        let express = Prices::EXPRESS.of_all(&usage);
        assert!(near(express, puts as f64 * 0.000_001_13 + puts as f64 / 128.0 * 0.003_2), "{express}");
        assert!(near(Prices::STANDARD.of_storage(10 << 30), 0.23));
        assert!(near(Prices::STANDARD.puts_per_second(100.0), 100.0 / 0.000_005 / MONTH_SECONDS));
        assert_eq!(Prices::FREE.puts_per_second(1.0), f64::INFINITY);
    }

    proptest! {
        #[test]
        fn money_is_counts_times_prices(
            counts in proptest::collection::vec((0_usize..9, 0_usize..7, 0_u64..1_000_000, 0_u64..1 << 40), 0..50),
            prices in proptest::array::uniform4(0.0..10.0_f64),
        ) {
            let [put_per_1000, get_per_1000, upload_gb, download_gb] = prices;
            let prices = Prices { put_per_1000, get_per_1000, storage_gb_month: 1.0, upload_gb, download_gb };
            let (mut usage, mut money) = (Usage::default(), 0.0);
            for (operation, purpose, requests, bytes) in counts {
                let operation = Operation::ALL[operation];
                usage.add(operation, Purpose::ALL[purpose], Tally { requests, bytes });
                let (request, byte) = match operation.name() {
                    "put" | "put_new" | "put_part" => (put_per_1000 / 1e3, upload_gb / GB_BYTES),
                    "list" => (put_per_1000 / 1e3, 0.0),
                    "get" | "get_range" => (get_per_1000 / 1e3, download_gb / GB_BYTES),
                    "head" => (get_per_1000 / 1e3, 0.0),
                    _ => (0.0, 0.0),
                };
                money += requests as f64 * request + bytes as f64 * byte;
            }
            let told = prices.of_all(&usage);
            prop_assert!((told - money).abs() <= 1e-6 * money.max(1.0), "{told} is not {money}");
        }
    }
}
