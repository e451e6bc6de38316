//! `s3-server`: the tests' S3 server as a program, for benchmarks and for trying things by hand.
//!
//! Lines on its standard input are commands, each answered by a line: `counts` (PUTs, GETs, bytes in, bytes out, LISTs,
//! HEADs, and requests of uploads in parts so far) and `latencies PUT GET MS-PER-MIB`, as the flags of these names take them.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use compat_tests::s3_server::faults::RequestKind;
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
    let options = S3ServerOptions { listen, bucket, access_key, secret, ..S3ServerOptions::default() };
    let server = S3Server::start_with(options).await?;
    set_latencies(&server, put_ms, get_ms, ms_per_mib).map_err(std::io::Error::other)?;
    println!("listening on {}, bucket s3://{}", server.endpoint(), server.bucket());
    for (name, value) in server.environment() {
        println!("export {name}={value}");
    }
    // A thread that ends with the process: standard input cannot be waited for and left.
    std::thread::Builder::new().name("commands".into()).spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            println!("{}", answer(&server, &line).unwrap_or_else(|error| format!("error: {error}")));
        }
        // The server lives as long as the process.
        loop {
            std::thread::park();
        }
    })?;
    tokio::signal::ctrl_c().await
}

fn set_latencies(server: &S3Server, put: Delay, get: Delay, ms_per_mib: f64) -> Result<(), String> {
    let per_mib = Duration::try_from_secs_f64(ms_per_mib / 1000.0).map_err(|e| e.to_string())?;
    server.faults().put_latency(put);
    server.faults().get_latency(get);
    server.faults().set(|plan| plan.latency_per_mib = per_mib);
    Ok(())
}

fn answer(server: &S3Server, line: &str) -> Result<String, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["counts"] => {
            let [puts, creates, gets, parts, multipart, lists, heads] = [
                RequestKind::Put,
                RequestKind::Create,
                RequestKind::Get,
                RequestKind::Part,
                RequestKind::Multipart,
                RequestKind::List,
                RequestKind::Head,
            ]
            .map(|kind| server.count(kind));
            let whole = puts.requests + creates.requests;
            let bytes_in = puts.bytes_in + creates.bytes_in + parts.bytes_in;
            let in_parts = parts.requests + multipart.requests;
            let rest = format!("{} {} {in_parts}", lists.requests, heads.requests);
            Ok(format!("{whole} {} {bytes_in} {} {rest}", gets.requests, gets.bytes_out))
        }
        ["latencies", put, get, per_mib] => {
            let per_mib = per_mib.parse().map_err(|e| format!("{per_mib:?}: {e}"))?;
            set_latencies(server, parse_delay(put)?, parse_delay(get)?, per_mib)?;
            Ok("ok".to_owned())
        }
        _ => Err(format!("{line:?} is neither `counts` nor `latencies PUT GET MS-PER-MIB`")),
    }
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
