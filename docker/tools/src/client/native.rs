//! librdkafka's admin calls that `rdkafka` does not wrap, or wraps without the broker's words. The only room with `unsafe` code.
//!
//! What makes it sound: every pointer that librdkafka gives away is owned by [`Owned`] and freed once; every pointer into an answer
//! is read while its [`Answer`] lives, and copied; strings go in as `CString`s that outlive the call, which copies them.
#![allow(unsafe_code)]

mod acls;
mod configs;
mod groups;
mod offsets;
mod topics;

use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::ManuallyDrop;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::producer::{BaseProducer, Producer};

pub use acls::{Acl, AclFilter};
pub use configs::{Alteration, ConfigEntry, Resource};
pub use groups::{Committed, Group, GroupListing, Member};
pub use offsets::Wanted;
pub use topics::{NewTopic, Partition, Topic};

use super::settings::{Listener, Settings};
use super::{Failure, Outcomes, TopicPartition};

/// What librdkafka may take beyond the time it was given before it is given up.
const GRACE: Duration = Duration::from_secs(2);
/// Longest text of an error that a constructor of librdkafka writes, bytes.
const ERROR_TEXT: usize = 512;

/// A broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its id; negative if there is none.
    pub id: i32,
    /// Where it listens.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A client of the cluster for admin calls.
pub struct Admin {
    /// Never taken apart: the command ends with its process, and librdkafka's farewell takes longer than a short command.
    client: ManuallyDrop<BaseProducer<Listener>>,
    patience: Duration,
}

/// What librdkafka gave away: freed when dropped.
struct Owned<T> {
    pointer: *mut T,
    free: unsafe extern "C" fn(*mut T),
}

/// An answer of the cluster. Whatever is read from it is copied.
struct Answer(Owned<c::rd_kafka_event_t>);

/// A call on its way: what its function is to be given.
struct Call {
    rk: *mut c::rd_kafka_t,
    options: *mut c::rd_kafka_AdminOptions_t,
    queue: *mut c::rd_kafka_queue_t,
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka together with this function to free it, and never freed elsewhere.
        unsafe { (self.free)(self.pointer) }
    }
}

impl Admin {
    /// A client. It connects with its first call.
    ///
    /// # Errors
    /// If a setting is not possible.
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        let client = ManuallyDrop::new(settings.config.create_with_context(Listener)?);
        Ok(Self { client, patience: settings.patience })
    }

    /// The same, waiting at most this long for each answer.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn ask(&self, op: c::rd_kafka_admin_op_t, name: &str, send: impl FnOnce(&Call)) -> Result<Answer, Failure> {
        let rk = self.client.client().native_ptr();
        let wait = millis(self.patience);
        // SAFETY: `rk` lives as long as `self`; queue and options outlive the call, whose answer is awaited here.
        unsafe {
            let queue = Owned { pointer: c::rd_kafka_queue_new(rk), free: c::rd_kafka_queue_destroy };
            let options =
                Owned { pointer: c::rd_kafka_AdminOptions_new(rk, op), free: c::rd_kafka_AdminOptions_destroy };
            let mut text = [0; ERROR_TEXT];
            c::rd_kafka_AdminOptions_set_request_timeout(options.pointer, wait, text.as_mut_ptr(), text.len());
            send(&Call { rk, options: options.pointer, queue: queue.pointer });
            let event = c::rd_kafka_queue_poll(queue.pointer, millis(self.patience + GRACE));
            if event.is_null() {
                return Err(Failure::timed_out(name));
            }
            let answer = Answer(Owned { pointer: event, free: c::rd_kafka_event_destroy });
            let code = c::rd_kafka_event_error(event) as i32;
            if code == 0 {
                return Ok(answer);
            }
            let failure = Failure::of(code, &text_at(c::rd_kafka_event_error_string(event)));
            Err(if failure.is_timeout() { Failure::timed_out(name) } else { failure })
        }
    }
}

impl Answer {
    fn event(&self) -> *mut c::rd_kafka_event_t {
        self.0.pointer
    }
}

fn millis(time: Duration) -> c_int {
    c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)
}

/// A text for librdkafka.
fn text_for(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure::of(42, &format!("'{}' holds a zero byte", text.replace('\0', "\\0"))))
}

/// A copy of a text of librdkafka; empty if there is none.
///
/// # Safety
/// Null, or a string that lives for the call.
unsafe fn text_at(pointer: *const c_char) -> String {
    // SAFETY: as the caller promises.
    unsafe { maybe_text_at(pointer) }.unwrap_or_default()
}

/// A copy of a text of librdkafka.
///
/// # Safety
/// As of [`text_at`].
unsafe fn maybe_text_at(pointer: *const c_char) -> Option<String> {
    // SAFETY: as the caller promises.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// The elements of an array that a getter of librdkafka answers together with their number.
///
/// # Safety
/// The getter must belong to something that lives for `'a`.
unsafe fn array<'a, T>(read: impl FnOnce(*mut usize) -> *mut *const T) -> &'a [*const T] {
    let mut count = 0;
    let first = read(&mut count);
    // SAFETY: librdkafka answers `count` pointers at `first`, or null.
    if first.is_null() { &[] } else { unsafe { std::slice::from_raw_parts(first, count) } }
}

/// What an error of librdkafka says; nothing if it is none.
///
/// # Safety
/// Null, or an error that lives for the call.
unsafe fn failure_at(error: *const c::rd_kafka_error_t) -> Option<Failure> {
    // SAFETY: as the caller promises.
    let (code, text) = unsafe {
        if error.is_null() {
            return None;
        }
        (c::rd_kafka_error_code(error) as i32, text_at(c::rd_kafka_error_string(error)))
    };
    (code != 0).then(|| Failure::of(code, &text))
}

/// # Safety
/// Null, or a node that lives for the call.
unsafe fn node_at(node: *const c::rd_kafka_Node_t) -> Option<Node> {
    // SAFETY: as the caller promises.
    (!node.is_null()).then(|| unsafe {
        Node {
            id: c::rd_kafka_Node_id(node),
            host: text_at(c::rd_kafka_Node_host(node)),
            port: c::rd_kafka_Node_port(node),
        }
    })
}

/// A list of partitions for librdkafka, each with an offset.
fn partition_list<'a>(
    partitions: impl IntoIterator<Item = (&'a TopicPartition, i64)>,
) -> Result<Owned<c::rd_kafka_topic_partition_list_t>, Failure> {
    // SAFETY: the list is owned from here on; adding copies the name and answers a place in the list.
    unsafe {
        let pointer = c::rd_kafka_topic_partition_list_new(0);
        let list = Owned { pointer, free: c::rd_kafka_topic_partition_list_destroy };
        for (of, offset) in partitions {
            let topic = text_for(&of.topic)?;
            let added = c::rd_kafka_topic_partition_list_add(list.pointer, topic.as_ptr(), of.partition);
            (*added).offset = offset;
        }
        Ok(list)
    }
}

/// The partitions of a list, each with its offset, its error and its leader epoch, which is negative if unknown.
///
/// # Safety
/// Null, or a list that lives for the call.
unsafe fn partitions_at(
    list: *const c::rd_kafka_topic_partition_list_t,
) -> Vec<(TopicPartition, i64, Option<Failure>, i32)> {
    // SAFETY: as the caller promises; the list holds `cnt` elements at `elems`.
    unsafe {
        if list.is_null() || (*list).cnt <= 0 {
            return Vec::new();
        }
        let elements = std::slice::from_raw_parts((*list).elems, (*list).cnt as usize);
        let read = |element: &c::rd_kafka_topic_partition_t| {
            let code = element.err as i32;
            let failure = (code != 0).then(|| Failure::of(code, ""));
            let epoch = c::rd_kafka_topic_partition_get_leader_epoch(element);
            (TopicPartition::new(text_at(element.topic), element.partition), element.offset, failure, epoch)
        };
        elements.iter().map(read).collect()
    }
}

/// Makes something of librdkafka whose constructor writes its error as text.
///
/// # Safety
/// `free` frees what `make` makes.
unsafe fn made<T>(
    free: unsafe extern "C" fn(*mut T),
    make: impl FnOnce(*mut c_char, usize) -> *mut T,
) -> Result<Owned<T>, Failure> {
    let mut text = [0; ERROR_TEXT];
    let pointer = make(text.as_mut_ptr(), text.len());
    if pointer.is_null() {
        // SAFETY: librdkafka ends what it writes with a zero byte, and nothing was written otherwise.
        return Err(Failure::of(42, &unsafe { text_at(text.as_ptr()) }));
    }
    Ok(Owned { pointer, free })
}

/// The pointers of what is owned, for calls that take an array of them.
fn pointers<T>(owned: &[Owned<T>]) -> Vec<*mut T> {
    owned.iter().map(|owned| owned.pointer).collect()
}
