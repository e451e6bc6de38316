//! What a request sends: the chunks of a payload as they are, evenly if it need not be there soon.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::blob::Payload;
use crate::pace::Pace;

/// An even body may be ahead of its time by so much: it sends a few frames at once, and then none for as long.
const AHEAD: Duration = Duration::from_millis(4);

/// A body that gives the payload's chunks, again from the start if the SDK asks again; no more than so many bytes a second.
pub(super) fn body(payload: Payload, bytes_per_second: Option<u64>) -> ByteStream {
    ByteStream::new(SdkBody::retryable(move || {
        let even = bytes_per_second.map(Even::new);
        SdkBody::from_body_1_x(Chunks { payload: payload.clone(), next: 0, left: payload.len(), even })
    }))
}

struct Chunks {
    payload: Payload,
    next: usize,
    left: u64,
    even: Option<Even>,
}

/// A pace, and the rest that it takes between frames.
struct Even {
    pace: Pace,
    rest: Pin<Box<Sleep>>,
}

impl Even {
    fn new(bytes_per_second: u64) -> Self {
        Self { pace: Pace::new(bytes_per_second, Duration::ZERO), rest: Box::pin(sleep_until(Instant::now())) }
    }

    fn sent(&mut self, bytes: u64) {
        self.pace.pay(bytes);
        let due = self.pace.paid_at();
        if due > Instant::now() + AHEAD {
            self.rest.as_mut().reset(due);
        }
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(even) = &mut self.even {
            ready!(even.rest.as_mut().poll(cx));
        }
        let Some(chunk) = self.payload.chunks().get(self.next).cloned() else { return Poll::Ready(None) };
        let bytes = chunk.len() as u64;
        self.next += 1;
        self.left -= bytes;
        if let Some(even) = &mut self.even {
            even.sent(bytes);
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_gives_the_chunks_themselves_and_can_be_read_again() {
        let chunk = Bytes::from(vec![1; 100]);
        let payload = Payload::new([chunk.clone(), Bytes::from_static(b"end")]);
        let body = body(payload, None).into_inner();
        assert_eq!(body.content_length(), Some(103));
        for attempt in [body.try_clone().unwrap(), body] {
            let mut stream = ByteStream::new(attempt);
            let first = stream.try_next().await.unwrap().unwrap();
            assert_eq!(first.as_ptr(), chunk.as_ptr(), "copied");
            assert_eq!(stream.try_next().await.unwrap().unwrap(), "end");
            assert!(stream.try_next().await.unwrap().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_even_body_takes_its_time_and_no_more() {
        let payload = Payload::new((0..1_000).map(|n| Bytes::from(vec![n as u8; 1 << 10])));
        let mut stream = body(payload.clone(), Some(500 << 10));
        let (began, mut halfway, mut all) = (Instant::now(), None, Vec::new());
        while let Some(chunk) = stream.try_next().await.unwrap() {
            all.extend_from_slice(&chunk);
            if all.len() == 500 << 10 {
                halfway = Some(began.elapsed());
            }
        }
        assert_eq!(all, payload.to_bytes());
        for (took, wanted) in [(halfway.unwrap(), 1.0), (began.elapsed(), 2.0)] {
            assert!((took.as_secs_f64() - wanted).abs() < 0.05, "{took:?} instead of {wanted} s");
        }
    }
}
