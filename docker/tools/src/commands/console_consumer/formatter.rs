//! How a record is written.

use std::io::{self, Write};

use rdkafka::message::{Headers as _, Message, Timestamp};

use crate::client::properties::{self, Properties};
use crate::flags::Flags;
use crate::output::End;

/// How a record is written.
#[derive(Debug)]
pub struct Formatter {
    kind: Kind,
    timestamp: bool,
    partition: bool,
    offset: bool,
    delivery: bool,
    epoch: bool,
    headers: bool,
    key: bool,
    value: bool,
    key_separator: Vec<u8>,
    line_separator: Vec<u8>,
    headers_separator: Vec<u8>,
    null_literal: Vec<u8>,
    key_reader: Reader,
    value_reader: Reader,
    header_reader: Reader,
}

/// The formatters of Kafka that know no format of a broker's own topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Default,
    Logging,
    NoOp,
}

/// Java's deserializers of what needs no schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Bytes,
    Short,
    Integer,
    Long,
    Float,
    Double,
    Boolean,
    Uuid,
    Void,
}

impl Formatter {
    /// Of `--formatter` and its properties.
    ///
    /// # Errors
    /// If it is a class that is not known here.
    pub fn of(flags: &Flags) -> Result<Self, End> {
        let class = flags.value("formatter").map_err(End::Usage)?.unwrap_or("DefaultMessageFormatter");
        let kind = match class.rsplit(['.', '$']).next().unwrap_or_default() {
            "DefaultMessageFormatter" => Kind::Default,
            "LoggingMessageFormatter" => Kind::Logging,
            "NoOpMessageFormatter" => Kind::NoOp,
            _ => return Err(End::Said(format!("java.lang.ClassNotFoundException: {class}"))),
        };
        let mut set =
            flags.value("formatter-config").map_err(End::Usage)?.map_or(Ok(Properties::new()), properties::load)?;
        for name in ["formatter-property", "property"] {
            set.extend(properties::of_words(flags.values(name)));
        }
        for (flag, name) in [("key-deserializer", "key.deserializer"), ("value-deserializer", "value.deserializer")] {
            set.extend(flags.value(flag).map_err(End::Usage)?.map(|class| (name.to_owned(), class.to_owned())));
        }
        let is = |name: &str, default: bool| set.get(name).map_or(default, |on| on.trim().eq_ignore_ascii_case("true"));
        let bytes = |name: &str, default: &str| set.get(name).map_or(default, |text| &**text).as_bytes().to_vec();
        let reader = |name: &str| set.get(name).map_or(Ok(Reader::Bytes), |class| Reader::of(class));
        Ok(Self {
            kind,
            timestamp: is("print.timestamp", false),
            partition: is("print.partition", false),
            offset: is("print.offset", false),
            delivery: is("print.delivery", false),
            epoch: is("print.epoch", false),
            headers: is("print.headers", false),
            key: is("print.key", false),
            value: is("print.value", true),
            key_separator: bytes("key.separator", "\t"),
            line_separator: bytes("line.separator", "\n"),
            headers_separator: bytes("headers.separator", ","),
            null_literal: bytes("null.literal", "null"),
            key_reader: reader("key.deserializer")?,
            value_reader: reader("value.deserializer")?,
            header_reader: reader("headers.deserializer")?,
        })
    }

    /// Writes a record.
    ///
    /// # Errors
    /// If nobody reads.
    pub fn write(&mut self, message: &impl Message, out: &mut impl Write) -> io::Result<()> {
        match self.kind {
            Kind::NoOp => return Ok(()),
            Kind::Logging => log(message),
            Kind::Default => {}
        }
        let mut parts = Vec::new();
        if self.timestamp {
            parts.push(timestamp(message.timestamp()).into_bytes());
        }
        if self.partition {
            parts.push(format!("Partition:{}", message.partition()).into_bytes());
        }
        if self.offset {
            parts.push(format!("Offset:{}", message.offset()).into_bytes());
        }
        if self.delivery {
            parts.push(b"Delivery:NONE".to_vec());
        }
        if self.epoch {
            parts.push(b"Epoch:NONE".to_vec());
        }
        if self.headers {
            parts.push(self.headers_of(message));
        }
        if self.key {
            parts.push(self.read(self.key_reader, message.key()));
        }
        if self.value {
            parts.push(self.read(self.value_reader, message.payload()));
        }
        if !parts.is_empty() {
            out.write_all(&parts.join(&*self.key_separator))?;
            out.write_all(&self.line_separator)?;
        }
        Ok(())
    }

    fn headers_of(&self, message: &impl Message) -> Vec<u8> {
        let Some(headers) = message.headers().filter(|headers| headers.count() > 0) else {
            return b"NO_HEADERS".to_vec();
        };
        let write = |header: rdkafka::message::Header<'_, &[u8]>| {
            let mut text = format!("{}:", header.key).into_bytes();
            text.extend(self.read(self.header_reader, header.value));
            text
        };
        headers.iter().map(write).collect::<Vec<_>>().join(&*self.headers_separator)
    }

    fn read(&self, reader: Reader, bytes: Option<&[u8]>) -> Vec<u8> {
        match bytes {
            None => self.null_literal.clone(),
            Some(bytes) => reader.read(bytes),
        }
    }
}

fn timestamp(timestamp: Timestamp) -> String {
    match timestamp {
        Timestamp::NotAvailable => "NO_TIMESTAMP".to_owned(),
        Timestamp::CreateTime(time) => format!("CreateTime:{time}"),
        Timestamp::LogAppendTime(time) => format!("LogAppendTime:{time}"),
    }
}

fn log(message: &impl Message) {
    let time = timestamp(message.timestamp());
    let text =
        |bytes: Option<&[u8]>| bytes.map_or_else(|| "null".into(), |bytes| String::from_utf8_lossy(bytes).into_owned());
    eprintln!("INFO {time}, key:{}, value:{}", text(message.key()), text(message.payload()));
}

impl Reader {
    fn of(class: &str) -> Result<Self, End> {
        Ok(match class.rsplit('.').next().unwrap_or_default() {
            "StringDeserializer" | "BytesDeserializer" | "ByteArrayDeserializer" => Self::Bytes,
            "ShortDeserializer" => Self::Short,
            "IntegerDeserializer" => Self::Integer,
            "LongDeserializer" => Self::Long,
            "FloatDeserializer" => Self::Float,
            "DoubleDeserializer" => Self::Double,
            "BooleanDeserializer" => Self::Boolean,
            "UUIDDeserializer" => Self::Uuid,
            "VoidDeserializer" => Self::Void,
            _ => return Err(End::Said(format!("java.lang.ClassNotFoundException: {class}"))),
        })
    }

    /// As text; bytes of another length than the class has are written as they are.
    fn read(self, bytes: &[u8]) -> Vec<u8> {
        let text = match self {
            Self::Short => bytes.try_into().map(|bytes| i16::from_be_bytes(bytes).to_string()).ok(),
            Self::Integer => bytes.try_into().map(|bytes| i32::from_be_bytes(bytes).to_string()).ok(),
            Self::Long => bytes.try_into().map(|bytes| i64::from_be_bytes(bytes).to_string()).ok(),
            Self::Float => bytes.try_into().map(|bytes| format!("{:?}", f32::from_be_bytes(bytes))).ok(),
            Self::Double => bytes.try_into().map(|bytes| format!("{:?}", f64::from_be_bytes(bytes))).ok(),
            Self::Boolean => (bytes.len() == 1).then(|| (bytes[0] == 1).to_string()),
            Self::Void => Some("null".to_owned()),
            // Kafka writes an id as its text.
            Self::Bytes | Self::Uuid => None,
        };
        text.map_or_else(|| bytes.to_vec(), String::into_bytes)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

    use super::*;

    fn written(line: &str, message: &OwnedMessage) -> String {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let flags = Flags::parse(super::super::FLAGS, &words).expect("flags");
        let mut out = Vec::new();
        Formatter::of(&flags).expect("a formatter").write(message, &mut out).expect("a vector takes every write");
        String::from_utf8(out).expect("text")
    }

    fn message(key: Option<&[u8]>, value: Option<&[u8]>, headers: Option<OwnedHeaders>) -> OwnedMessage {
        let bytes = |bytes: &[u8]| bytes.to_vec();
        OwnedMessage::new(value.map(bytes), key.map(bytes), "t".to_owned(), Timestamp::CreateTime(5), 2, 9, headers)
    }

    #[test]
    fn every_part_in_kafka_s_order() {
        let headers = OwnedHeaders::new().insert(Header { key: "a", value: Some("1") });
        let headers = headers.insert(Header { key: "b", value: None::<&str> });
        let full = message(Some(b"k"), Some(b"v"), Some(headers));
        let all = "--formatter-property print.timestamp=true --formatter-property print.partition=true \
                   --formatter-property print.offset=true --formatter-property print.headers=true \
                   --formatter-property print.key=true";
        assert_eq!(written(all, &full), "CreateTime:5\tPartition:2\tOffset:9\ta:1,b:null\tk\tv\n");
        assert_eq!(written("", &full), "v\n");
        let bare = message(None, None, None);
        let some = "--property print.key=true --property print.headers=true --property null.literal=NIL \
                    --property key.separator=| --property line.separator=;";
        assert_eq!(written(some, &bare), "NO_HEADERS|NIL|NIL;");
        assert_eq!(written("--property print.value=false", &full), "");
    }

    #[test]
    fn numbers_of_java() {
        let long = message(Some(b"k"), Some(&7_i64.to_be_bytes()), None);
        let class = "org.apache.kafka.common.serialization.LongDeserializer";
        assert_eq!(written(&format!("--value-deserializer {class}"), &long), "7\n");
        assert_eq!(written(&format!("--property value.deserializer={class}"), &long), "7\n");
        assert_eq!(Reader::Double.read(&1.0_f64.to_be_bytes()), b"1.0");
        assert!(Reader::of("io.confluent.kafka.serializers.KafkaAvroDeserializer").is_err());
    }
}
