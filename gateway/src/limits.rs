//! Every hard cap of the wire, each with its unit. Past a cap the client gets a Kafka error, waits, or is closed.

use std::time::Duration;

/// Largest frame of any kind, bytes (Kafka's `socket.request.max.bytes`).
pub const FRAME_BYTES_MAX: usize = 100 << 20;
/// Largest frame of an API that names no cap of its own, bytes. A decoded request may take twelve times its frame
/// (`wire::guard`), so only what carries records or a group's assignments is given more.
pub const FRAME_BYTES: usize = 2 << 20;
/// Largest frame of the APIs that carry what a whole group has to say, bytes: JoinGroup, SyncGroup, offset commits.
pub const FRAME_BYTES_GROUP: usize = 16 << 20;
/// Largest frame before the client has authenticated, bytes (Kafka's `sasl.server.max.receive.size`).
pub const FRAME_BYTES_UNAUTHENTICATED: usize = 512 << 10;
/// First piece of buffer a connection gets, bytes; most requests fit.
pub const READ_BUFFER_BYTES: usize = 4 << 10;
/// Most buffer a frame gets on its announcement, bytes. Who has filled it gets what is missing, up to [`FRAME_BYTES`] at a
/// time; so few bytes are copied to a larger buffer, and announcing much without sending it takes no memory.
pub const READ_AHEAD_BYTES: usize = 64 << 10;
/// Memory that a frame holds before its bytes have come, bytes: ten thousand silent connections leave room for others.
pub const READ_PROMISED_BYTES: usize = 16 << 10;
/// Bytes of requests held by all connections together; past it sockets are not read.
pub const REQUEST_MEMORY_BYTES: usize = 512 << 20;
/// Bytes of decoded requests that are being begun, of all connections together; past it requests wait to be decoded.
pub const DECODED_MEMORY_BYTES: usize = 256 << 20;
/// Decoded requests below this are too small to be counted, bytes.
pub const DECODED_UNCOUNTED_BYTES: usize = 64 << 10;
/// Bytes of answers held by all connections together; past it answers wait to be made.
pub const ANSWER_MEMORY_BYTES: usize = 1 << 30;
/// Answers below this are too small to be counted, bytes.
pub const ANSWER_UNCOUNTED_BYTES: usize = 64 << 10;
/// Requests of one connection that may be begun and unanswered at once.
pub const IN_FLIGHT_PER_CONNECTION: u32 = 100;
/// Chunks given to one vectored write.
pub const WRITE_CHUNKS: usize = 64;
/// Connections at once, of all listeners together.
pub const CONNECTIONS: usize = 16_384;
/// Connections at once from one IPv4 address or one IPv6 /64.
pub const CONNECTIONS_PER_ADDRESS: usize = 4_096;
/// Connections the system may hold for us before we accept them.
pub const ACCEPT_BACKLOG: u32 = 1_024;
/// Wait after the first failed accept (out of file descriptors, say); doubles up to [`ACCEPT_BACKOFF_MAX`].
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(10);
/// Longest wait between failed accepts.
pub const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A silent connection is probed after this long.
pub const KEEPALIVE: Duration = Duration::from_secs(60);
/// A frame must be whole this long after its first byte, time spent waiting for memory not counted.
pub const FRAME_DEADLINE: Duration = Duration::from_secs(30);
/// Refused connections are logged no more often than this.
pub const REFUSALS_SAID_EVERY: Duration = Duration::from_secs(10);
/// A connection with nothing to do for this long is closed (Kafka's `connections.max.idle.ms`).
pub const IDLE_DEADLINE: Duration = Duration::from_secs(600);
/// An answer must be taken by the client within this and the time of [`ANSWER_BYTES_PER_SECOND`].
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Slowest client that still gets a large answer, bytes a second.
pub const ANSWER_BYTES_PER_SECOND: usize = 64 << 10;
/// How long a gateway that leaves others waits for the journal to take the word of it.
pub const LEAVE_SAYING: Duration = Duration::from_secs(5);
/// How long the others are given to hear it, before clients are sent to them.
pub const LEAVE_HEARD: Duration = Duration::from_millis(200);
/// How long clients are given to go to others before their connections are closed.
pub const LEAVE_GRACE: Duration = Duration::from_secs(2);
/// Pause after a gateway came or went before the feature level is raised.
pub const LEVEL_PAUSE: Duration = Duration::from_secs(5);
/// How long a stopping gateway waits for what is in flight.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(20);
/// Longest a produce waits for its commit, whatever the client says.
pub const PRODUCE_DEADLINE: Duration = Duration::from_secs(300);
/// Longest a fetch waits for records, whatever the client says.
pub const FETCH_WAIT: Duration = Duration::from_secs(300);
/// Longest an admin request waits for the journal, whatever the client says.
pub const ADMIN_WAIT: Duration = Duration::from_secs(60);
/// Most bytes a compressed batch may inflate to while it is checked.
pub const INFLATED_BATCH_BYTES: usize = 128 << 20;
/// Rows of one table of the console; past it the table says that it is cut.
pub const CONSOLE_ROWS: usize = 1_000;
/// Partitions or committed offsets that the console adds up in one look at the state; apply waits for a look to end.
pub const CONSOLE_LOOK: usize = 4_096;
/// Committed offsets of one group that the console adds up; past it the lag is a lower bound.
pub const CONSOLE_OFFSETS_PER_GROUP: usize = 50_000;
/// Letters of a filter of the console.
pub const CONSOLE_FIND_LEN: usize = 249;
/// The one leader epoch of every partition: a log here never changes hands.
pub const LEADER_EPOCH: i32 = 0;
