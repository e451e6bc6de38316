//! Every hard cap of the wire, each with its unit. Past a cap the client gets a Kafka error, waits, or is closed.

use std::time::Duration;

/// Largest frame of any kind, bytes (Kafka's `socket.request.max.bytes`).
pub const FRAME_BYTES_MAX: usize = 100 << 20;
/// Largest frame of an API that names no cap of its own, bytes.
pub const FRAME_BYTES: usize = 2 << 20;
/// Largest frame before the client has authenticated, bytes (Kafka's `sasl.server.max.receive.size`).
pub const FRAME_BYTES_UNAUTHENTICATED: usize = 512 << 10;
/// Requests of one connection that may be begun and unanswered at once.
pub const IN_FLIGHT_PER_CONNECTION: usize = 100;
/// A frame must be whole this long after its first byte.
pub const FRAME_DEADLINE: Duration = Duration::from_secs(30);
/// A connection without a request for this long is closed (Kafka's `connections.max.idle.ms`).
pub const IDLE_DEADLINE: Duration = Duration::from_secs(600);
