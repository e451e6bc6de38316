//! `s3-server`: the tests' S3 server as a program, for benchmarks and for trying things by hand.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use compat_tests::s3_server::{S3Server, S3ServerOptions};
use storage::blob::faulty::Delay;

/// A strict S3 server in memory, for tests. It forgets everything when it ends.
#[derive(Debug, Parser)]
#[command(name = "s3-server")]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// The one bucket there is.
    #[arg(long, default_value_t = S3ServerOptions::default().bucket)]
    bucket: String,
    /// The one access key.
    #[arg(long, default_value_t = S3ServerOptions::default().access_key)]
    access_key: String,
    /// Its secret.
    #[arg(long, default_value_t = S3ServerOptions::default().secret)]
    secret: String,
    /// Milliseconds a PUT takes: a number, or the median and the 99th percentile as `p50,p99`.
    #[arg(long, value_parser = parse_delay, default_value = "0")]
    put_ms: Delay,
    /// Milliseconds a GET takes: a number, or `p50,p99`.
    #[arg(long, value_parser = parse_delay, default_value = "0")]
    get_ms: Delay,
    /// More milliseconds for each MiB of a body.
    #[arg(long, default_value_t = 0.0)]
    ms_per_mib: f64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().and_then(|runtime| runtime.block_on(run(arguments)));
    match runtime {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("s3-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> std::io::Result<()> {
    let Arguments { listen, bucket, access_key, secret, put_ms, get_ms, ms_per_mib } = arguments;
    let per_mib = Duration::try_from_secs_f64(ms_per_mib / 1000.0).map_err(std::io::Error::other)?;
    let options = S3ServerOptions { listen, bucket, access_key, secret, ..S3ServerOptions::default() };
    let server = S3Server::start_with(options).await?;
    server.faults().put_latency(put_ms);
    server.faults().get_latency(get_ms);
    server.faults().set(|plan| plan.latency_per_mib = per_mib);
    println!("listening on {}, bucket s3://{}", server.endpoint(), server.bucket());
    for (name, value) in server.environment() {
        println!("export {name}={value}");
    }
    tokio::signal::ctrl_c().await
}

fn parse_delay(text: &str) -> Result<Delay, String> {
    let millis = |text: &str| {
        let number =
            text.trim().parse::<f64>().map_err(|e| format!("{text:?} is not a number of milliseconds: {e}"))?;
        Duration::try_from_secs_f64(number / 1000.0).map_err(|e| e.to_string())
    };
    match text.split_once(',') {
        None => Ok(Delay::Fixed(millis(text)?)),
        Some((p50, p99)) => {
            let (p50, p99) = (millis(p50)?, millis(p99)?);
            if p50.is_zero() || p99 < p50 {
                return Err("the median must be above 0 and not above the 99th percentile".to_owned());
            }
            Ok(Delay::LogNormal { p50, p99 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_a_number_or_two() {
        let ms = Duration::from_millis;
        assert_eq!(parse_delay("0"), Ok(Delay::Fixed(ms(0))));
        assert_eq!(parse_delay("2.5"), Ok(Delay::Fixed(Duration::from_micros(2500))));
        assert_eq!(parse_delay("20, 80"), Ok(Delay::LogNormal { p50: ms(20), p99: ms(80) }));
        for bad in ["", "x", "-1", "80,20", "0,1", "1,2,3"] {
            assert!(parse_delay(bad).is_err(), "{bad}");
        }
    }
}
