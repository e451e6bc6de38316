//! The promise of an answer to a produce request.

use std::pin::Pin;
use std::task::{Context, Poll};

use metadata::command::BatchOutcome;
use tokio::sync::oneshot;

use crate::error::WriteError;

/// What becomes of each batch of a request, in the order of its submissions. Dropping it cancels nothing: the batches take
/// their course, unheard.
#[derive(Debug)]
#[must_use = "what became of the batches is only told here"]
pub struct ProduceTicket {
    answer: oneshot::Receiver<Result<Vec<BatchOutcome>, WriteError>>,
}

impl ProduceTicket {
    pub(super) fn new(answer: oneshot::Receiver<Result<Vec<BatchOutcome>, WriteError>>) -> Self {
        Self { answer }
    }
}

impl Future for ProduceTicket {
    type Output = Result<Vec<BatchOutcome>, WriteError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let heard = Pin::new(&mut self.answer).poll(context);
        heard.map(|answer| answer.unwrap_or_else(|_| Err(WriteError::Unknown("the writer's tasks were ended".into()))))
    }
}
