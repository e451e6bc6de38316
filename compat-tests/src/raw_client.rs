//! A bare wire client: asks what good clients ask, and sends what no good client sends.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest a test waits for anything the gateway owes it.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// One connection.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    name: StrBytes,
    next: i32,
}

/// A request that was sent: what its answer will be.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
}

impl RawClient {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_as(address, "raw").await
    }

    /// Connects, to call itself that: its `client.id`.
    pub async fn connect_as(address: SocketAddr, name: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, name: StrBytes::from_string(name.to_owned()), next: 1 })
    }

    /// Sends a request and waits for its answer. Not to be called with answers outstanding.
    pub async fn ask<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        let sent = self.send(version, request).await?;
        self.receive::<R>(sent).await
    }

    /// Sends a request and does not wait.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> io::Result<Sent> {
        let correlation_id = self.next;
        self.next += 1;
        self.send_bytes(&frame_of(self.name.clone(), version, correlation_id, request)?).await?;
        Ok(Sent { api: ApiKey::try_from(R::KEY).map_err(|()| wrong("unknown key"))?, version, correlation_id })
    }

    /// Waits until an answer begins to arrive, or the connection ends. Cancel safe.
    pub async fn arriving(&self) -> io::Result<()> {
        self.stream.peek(&mut [0]).await.map(drop)
    }

    /// The answer to the oldest request not yet answered, which must be `sent`.
    pub async fn receive<R: Request>(&mut self, sent: Sent) -> io::Result<R::Response> {
        let mut answer = self.receive_frame().await?;
        let header = ResponseHeader::decode(&mut answer, sent.api.response_header_version(sent.version));
        let header = header.map_err(|error| wrong(&format!("{error}")))?;
        if header.correlation_id != sent.correlation_id {
            let (got, wanted) = (header.correlation_id, sent.correlation_id);
            return Err(wrong(&format!("the answer to request {got} came instead of that to {wanted}")));
        }
        let response = R::Response::decode(&mut answer, sent.version).map_err(|error| wrong(&format!("{error}")))?;
        if answer.has_remaining() {
            return Err(wrong(&format!("{} bytes behind the answer", answer.remaining())));
        }
        Ok(response)
    }

    /// Sends the body of a request in a flexible version, for those the message crate does not encode, and waits for the answer,
    /// which it decodes in the version `answer`.
    pub async fn ask_body<R: Request>(&mut self, version: i16, body: &[u8], answer: i16) -> io::Result<R::Response> {
        let correlation_id = self.next;
        self.next += 1;
        let body = [&[0], body].concat(); // the header has no tagged fields
        self.send_bytes(&raw_frame(R::KEY, version, correlation_id, &body)).await?;
        let api = ApiKey::try_from(R::KEY).map_err(|()| wrong("unknown key"))?;
        self.receive::<R>(Sent { api, version: answer, correlation_id }).await
    }

    /// Sends bytes, whatever they are.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends bytes one by one, with a pause after each.
    pub async fn send_slowly(&mut self, bytes: &[u8], pause: Duration) -> io::Result<()> {
        for byte in bytes {
            self.stream.write_all(&[*byte]).await?;
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// The next frame, without its length.
    pub async fn receive_frame(&mut self) -> io::Result<Bytes> {
        let read = async {
            let len = self.stream.read_i32().await?;
            let len = usize::try_from(len).map_err(|_| wrong("a negative length"))?;
            let mut bytes = BytesMut::zeroed(len);
            self.stream.read_exact(&mut bytes).await?;
            Ok(bytes.freeze())
        };
        timeout(PATIENCE, read).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Whether the gateway closes the connection without another byte. Waits up to [`PATIENCE`].
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match timeout(PATIENCE, self.stream.read(&mut byte)).await {
            Ok(Ok(read)) => read == 0,
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }

    /// Says that nothing more will be sent, without leaving.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}

/// A whole request frame, length included.
pub fn frame<R: Request>(version: i16, correlation_id: i32, request: &R) -> io::Result<Bytes> {
    frame_of(StrBytes::from_static_str("raw"), version, correlation_id, request)
}

fn frame_of<R: Request>(name: StrBytes, version: i16, correlation_id: i32, request: &R) -> io::Result<Bytes> {
    let api = ApiKey::try_from(R::KEY).map_err(|()| wrong("unknown key"))?;
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(name));
    let mut bytes = BytesMut::zeroed(4);
    let failed = |error| wrong(&format!("{error}"));
    header.encode(&mut bytes, api.request_header_version(version)).map_err(failed)?;
    request.encode(&mut bytes, version).map_err(|error| wrong(&format!("{error}")))?;
    Ok(with_length(bytes))
}

/// A frame of any key, version and body, length included; the header is that of version 1.
pub fn raw_frame(key: i16, version: i16, correlation_id: i32, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::zeroed(4);
    bytes.put_i16(key);
    bytes.put_i16(version);
    bytes.put_i32(correlation_id);
    bytes.put_i16(-1); // no client id
    bytes.put_slice(body);
    with_length(bytes)
}

fn with_length(mut bytes: BytesMut) -> Bytes {
    let len = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    bytes.freeze()
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}
