//! One connection: requests begin in order, run as far as they may side by side, and are answered in order.
//!
//! A connection is one task. It reads the next request while earlier ones run, but begins it only in its turn. What it
//! holds is bounded: one request read ahead, [`IN_FLIGHT_PER_CONNECTION`] in flight, their bytes counted in the shared pools.
//! Whatever goes wrong here closes this connection and touches no other.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures_util::future::FutureExt;
use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::budget::Hold;
use super::frame::{FrameError, FrameReader};
use super::request::{Begun, Caller, End, Malformed};
use super::shared::Shared;
use crate::api::handler::Turn;
use crate::limits::{
    ANSWER_BYTES_PER_SECOND, ANSWER_UNCOUNTED_BYTES, DECODED_UNCOUNTED_BYTES, IN_FLIGHT_PER_CONNECTION, WRITE_CHUNKS,
};
use crate::metrics::RequestDone;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Closing {
    /// No further frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that is no request.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A request that ends in a close.
    #[error("{api}: {why}")]
    Refused {
        /// Kafka's name of the API.
        api: &'static str,
        /// What the handler said.
        why: String,
    },
    /// The socket failed under an answer.
    #[error("an answer could not be sent: {0}")]
    Send(io::Error),
    /// The client did not take its answer.
    #[error("an answer of {bytes} bytes was not taken within {within:?}")]
    Stalled {
        /// Bytes to be sent together.
        bytes: usize,
        /// The time the client had.
        within: Duration,
    },
    /// The gateway stops.
    #[error("the gateway stops")]
    Stopped,
}

impl Closing {
    /// A word for the metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Frame(FrameError::End) => "client",
            Self::Frame(FrameError::Idle(_)) => "idle",
            Self::Frame(FrameError::Slow(_)) | Self::Stalled { .. } => "slow",
            Self::Frame(FrameError::Broken(_) | FrameError::Cut) | Self::Send(_) => "broken",
            Self::Frame(FrameError::Unserved(..)) => "unserved",
            Self::Frame(FrameError::Length(_) | FrameError::Large { .. }) | Self::Malformed(_) => "malformed",
            Self::Refused { .. } => "refused",
            Self::Stopped => "stopped",
        }
    }

    /// Whether this is how connections end when all is well.
    pub fn is_usual(&self) -> bool {
        matches!(self.word(), "client" | "idle" | "broken" | "stopped")
    }
}

/// A request between its beginning and its answer.
struct Flight {
    api: &'static str,
    begun: Begun,
    since: Instant,
    request_bytes: usize,
    /// Its share of the request memory.
    memory: Hold,
    /// Its turn.
    turn: OwnedSemaphorePermit,
}

/// A request whose answer is there.
struct Landed {
    api: &'static str,
    end: End,
    since: Instant,
    request_bytes: usize,
    /// Held until the answer is sent.
    _held: (Hold, OwnedSemaphorePermit, Option<Hold>),
}

/// Serves one connection until it ends.
pub async fn serve<S>(stream: S, caller: Caller, shared: &Shared) -> Closing
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (source, sink) = tokio::io::split(stream);
    let (send, receive) = mpsc::channel(IN_FLIGHT_PER_CONNECTION as usize);
    let reader = FrameReader::new(source, shared.deadlines.frame);
    let intake = Box::pin(intake(reader, caller, send, shared));
    let mut outlet = Box::pin(outlet(sink, receive, shared));
    tokio::select! {
        closing = intake => match closing {
            // What is in flight is still answered; the sender is gone, so the outlet ends by itself.
            Closing::Stopped => outlet.await.err().unwrap_or(Closing::Stopped),
            closing => closing,
        },
        closing = &mut outlet => closing.err().unwrap_or(Closing::Stopped),
    }
}

async fn intake<R: AsyncRead + Unpin>(
    reader: FrameReader<R>,
    caller: Caller,
    send: mpsc::Sender<Flight>,
    shared: &Shared,
) -> Closing {
    tokio::select! {
        biased;
        () = shared.stop.cancelled() => Closing::Stopped,
        closing = begin_all(reader, caller, send, shared) => closing.err().unwrap_or(Closing::Stopped),
    }
}

/// Begins one request after the other, each in its turn.
async fn begin_all<R: AsyncRead + Unpin>(
    mut reader: FrameReader<R>,
    mut caller: Caller,
    send: mpsc::Sender<Flight>,
    shared: &Shared,
) -> Result<(), Closing> {
    let turns = Arc::new(Semaphore::new(IN_FLIGHT_PER_CONNECTION as usize));
    loop {
        let next = reader.next(shared.deadlines.idle, |fixed| shared.requests.cap(fixed), &shared.request_memory);
        let frame = match next.await {
            // Waiting for answers is not idling.
            Err(FrameError::Idle(_)) if turns.available_permits() < IN_FLIGHT_PER_CONNECTION as usize => continue,
            frame => frame?,
        };
        let since = Instant::now();
        let request_bytes = frame.bytes.len();
        let asked = shared.requests.open(&mut caller, frame.bytes)?;
        let places = match asked.turn {
            Turn::Alone => IN_FLIGHT_PER_CONNECTION,
            Turn::Together => 1,
        };
        let turn = Arc::clone(&turns).acquire_many_owned(places).await;
        let turn = turn.expect("the turns of a connection are never closed");
        // Held by a request only while it begins: none waits for anything of another's here, so the pool always moves.
        let decoded = match asked.decoded {
            0..=DECODED_UNCOUNTED_BYTES => None,
            bytes => Some(shared.decoded_memory.take(bytes).await),
        };
        let begun = asked.begin.await?;
        drop(decoded);
        let flight = Flight { api: asked.api, begun, since, request_bytes, memory: frame.memory, turn };
        if send.send(flight).await.is_err() {
            return Ok(()); // the outlet has ended and says why
        }
    }
}

/// Sends answers in the order their requests began.
async fn outlet<W: AsyncWrite + Unpin>(
    mut sink: W,
    mut receive: mpsc::Receiver<Flight>,
    shared: &Shared,
) -> Result<(), Closing> {
    let mut flights = FuturesOrdered::new();
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            Some(landed) = flights.next(), if !flights.is_empty() => {
                let mut landed: Vec<Landed> = vec![landed];
                while landed.len() < WRITE_CHUNKS
                    && let Some(Some(next)) = flights.next().now_or_never()
                {
                    landed.push(next);
                }
                answer(&mut sink, landed, shared).await?;
            }
            flight = receive.recv(), if open => match flight {
                Some(flight) => flights.push_back(land(flight, shared)),
                None => open = false,
            },
            else => break,
        }
    }
    let _ = timeout(shared.deadlines.answer, sink.shutdown()).await; // the client may be gone already
    Ok(())
}

async fn land(flight: Flight, shared: &Shared) -> Landed {
    let end = match flight.begun {
        Begun::Ready(end) => end,
        Begun::Later(end) => end.await,
    };
    let memory = match &end {
        End::Answer(encoded, _) if encoded.hold.is_none() && encoded.len > ANSWER_UNCOUNTED_BYTES => {
            Some(shared.answer_memory.take(encoded.len).await)
        }
        End::Answer(..) | End::Silence | End::Close(_) => None,
    };
    let Flight { api, since, request_bytes, .. } = flight;
    Landed { api, end, since, request_bytes, _held: (flight.memory, flight.turn, memory) }
}

/// Sends the answers together; a request that ends in a close ends the connection when those before it are sent.
async fn answer<W: AsyncWrite + Unpin>(sink: &mut W, landed: Vec<Landed>, shared: &Shared) -> Result<(), Closing> {
    let mut chunks = VecDeque::new();
    let mut bytes = 0;
    let mut closing = None;
    for landed in &landed {
        let error = match &landed.end {
            End::Answer(encoded, error) => {
                chunks.extend(encoded.chunks.iter().cloned());
                bytes += encoded.len;
                *error
            }
            End::Silence => 0,
            End::Close(why) => {
                closing = Some(Closing::Refused { api: landed.api, why: why.clone() });
                break;
            }
        };
        let response_bytes = if let End::Answer(encoded, _) = &landed.end { encoded.len } else { 0 };
        let (api, request_bytes, elapsed) = (landed.api, landed.request_bytes, landed.since.elapsed());
        shared.metrics.request_done(&RequestDone { api, error, elapsed, request_bytes, response_bytes });
    }
    let within = shared.deadlines.answer + Duration::from_secs((bytes / ANSWER_BYTES_PER_SECOND) as u64);
    let sent = timeout(within, write_all(sink, chunks)).await;
    sent.map_err(|_| Closing::Stalled { bytes, within })?.map_err(Closing::Send)?;
    closing.map_or(Ok(()), Err)
}

async fn write_all<W: AsyncWrite + Unpin>(sink: &mut W, mut chunks: VecDeque<Bytes>) -> io::Result<()> {
    while !chunks.is_empty() {
        let mut slices = [IoSlice::new(&[]); WRITE_CHUNKS];
        let count = chunks.len().min(WRITE_CHUNKS);
        for (slice, chunk) in slices.iter_mut().zip(&chunks) {
            *slice = IoSlice::new(chunk);
        }
        let mut written = sink.write_vectored(&slices[..count]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(chunk) = chunks.front_mut() {
            if written < chunk.len() {
                chunk.advance(written);
                break;
            }
            written -= chunk.len();
            chunks.pop_front();
        }
    }
    sink.flush().await
}

#[cfg(test)]
mod tests;
