//! The tests' own S3 server: strict where S3 is (signatures, conditions, pages, checksums), atomic, in memory, and able to
//! misbehave on command. Runs inside a test on a port of its own, or as the program `s3-server`.

mod backend;
pub mod faults;
mod uploads;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, IF_NONE_MATCH};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use storage::blob::s3::S3Options;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use backend::Backend;
use faults::{Fault, Mode, RequestKind, S3Faults};

/// What the server answers to.
#[derive(Debug, Clone)]
pub struct S3ServerOptions {
    /// Where to listen; default a free port on 127.0.0.1.
    pub listen: SocketAddr,
    /// The one bucket there is.
    pub bucket: String,
    /// The one access key.
    pub access_key: String,
    /// Its secret.
    pub secret: String,
    /// Decides about chances and spread latencies.
    pub seed: u64,
}

impl Default for S3ServerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            bucket: "streamhouse-test".to_owned(),
            access_key: "AKIDSTREAMHOUSETEST".to_owned(),
            secret: "a-secret-of-the-tests-only".to_owned(),
            seed: 1,
        }
    }
}

/// Requests of one kind so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Requests that arrived, whatever became of them.
    pub requests: u64,
    /// Bytes of their bodies, as announced.
    pub bytes_in: u64,
    /// Bytes of the bodies of answers.
    pub bytes_out: u64,
}

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    options: S3ServerOptions,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    backend: Backend,
    service: S3Service,
    faults: Arc<S3Faults>,
    counts: Mutex<HashMap<RequestKind, Count>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl S3Server {
    /// Starts with all defaults.
    pub async fn start() -> Self {
        Self::start_with(S3ServerOptions::default()).await.expect("a free port on the loopback")
    }

    /// Starts; fails if the address cannot be listened on.
    pub async fn start_with(options: S3ServerOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let backend = Backend::new(options.bucket.clone());
        let mut builder = S3ServiceBuilder::new(backend.clone());
        builder.set_auth(SimpleAuth::from_single(options.access_key.clone(), options.secret.clone()));
        let shared = Arc::new(Shared {
            backend,
            service: builder.build(),
            faults: Arc::new(S3Faults::new(options.seed)),
            counts: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, options, shared, accepting })
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The access key it knows.
    pub fn access_key(&self) -> &str {
        &self.options.access_key
    }

    /// The secret of that key.
    pub fn secret(&self) -> &str {
        &self.options.secret
    }

    /// The bucket it has.
    pub fn bucket(&self) -> &str {
        &self.options.bucket
    }

    /// How a store reaches it.
    pub fn store_options(&self) -> S3Options {
        S3Options {
            endpoint: Some(self.endpoint()),
            region: Some("us-east-1".to_owned()),
            credentials: Some((self.access_key().to_owned(), self.secret().to_owned())),
            ..S3Options::new(self.bucket())
        }
    }

    /// The environment that makes a gateway, or any AWS tool, reach it (together with `--endpoint`).
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("AWS_ACCESS_KEY_ID", self.access_key().to_owned()),
            ("AWS_SECRET_ACCESS_KEY", self.secret().to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    /// The switches of its misbehaviour.
    pub fn faults(&self) -> &Arc<S3Faults> {
        &self.shared.faults
    }

    /// What arrived so far.
    pub fn counts(&self) -> HashMap<RequestKind, Count> {
        self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What arrived of one kind so far.
    pub fn count(&self, kind: RequestKind) -> Count {
        self.counts().get(&kind).copied().unwrap_or_default()
    }

    /// All objects.
    pub fn contents(&self) -> BTreeMap<String, Bytes> {
        self.shared.backend.contents()
    }

    /// Uploads in parts that were begun and neither completed nor given up.
    pub fn unfinished_uploads(&self) -> usize {
        self.shared.backend.unfinished_uploads()
    }

    /// From now on `If-None-Match` is ignored, as by a store that does not know it.
    pub fn ignore_conditions(&self) {
        self.shared.backend.ignore_conditions();
    }

    /// Replaces an object behind everybody's back, or removes it.
    pub fn tamper(&self, key: &str, bytes: Option<Bytes>) {
        self.shared.backend.tamper(key, bytes);
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // Its connections live in its set of tasks, which goes with it.
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve(stream, Arc::clone(&shared)))),
                // Out of file descriptors, or a connection that went away while waiting: the next may be fine.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    if *shared.faults.mode().borrow() == Mode::Down {
        return;
    }
    // Without it, small answers wait for the acknowledgement of their headers.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let answer = service_fn(|request| shared.answer(request));
    // Connections end in many ways here, most of them on purpose.
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "connection ended");
    }
}

/// Closes the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the server closes the connection")]
struct Broken;

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Broken> {
        let kind = classify(&request);
        let bytes_in = request.body().size_hint().exact().unwrap_or_default();
        self.count(kind, |count| {
            count.requests += 1;
            count.bytes_in += bytes_in;
        });
        let (delay, fault) = self.faults.decide(kind);
        let delay = delay + self.faults.transfer(bytes_in);
        // What a request is to take includes the way of its body: it arrives while the time passes.
        let (head, body) = request.into_parts();
        let passing = async {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
        };
        let (body, ()) = tokio::join!(collect(body), passing);
        let request = Request::from_parts(head, body?.freeze());
        let mut mode = self.faults.mode();
        if *mode.borrow_and_update() != Mode::Up {
            // In a black hole until it ends; if down, this ends the connection at once.
            let _ = mode.wait_for(|mode| *mode != Mode::BlackHole).await;
            return Err(Broken);
        }
        match fault {
            Fault::Stall => std::future::pending().await,
            Fault::DropBefore => return Err(Broken),
            Fault::SlowDown => return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
            Fault::Conflict => return Ok(refusal(StatusCode::CONFLICT, "ConditionalRequestConflict")),
            Fault::InternalError => return Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
            Fault::Pass | Fault::DropAfter | Fault::FlipBit | Fault::ShortBody | Fault::CutBody => {}
        }
        let response = self.service.call(request.map(Body::from)).await.map_err(|_| Broken)?;
        if fault == Fault::DropAfter {
            return Err(Broken);
        }
        let bytes_out = HttpBody::size_hint(response.body()).exact().unwrap_or_default();
        self.count(kind, |count| count.bytes_out += bytes_out);
        let transfer = self.faults.transfer(bytes_out);
        if !transfer.is_zero() {
            tokio::time::sleep(transfer).await;
        }
        if kind == RequestKind::Get && response.status().is_success() {
            self.damage(response, fault).await
        } else {
            Ok(response)
        }
    }

    async fn damage(&self, response: Response<Body>, fault: Fault) -> Result<Response<Body>, Broken> {
        if !matches!(fault, Fault::FlipBit | Fault::ShortBody | Fault::CutBody) {
            return Ok(response);
        }
        let (mut head, body) = response.into_parts();
        let mut bytes = collect(body).await?;
        let whole = bytes.len();
        let body = match fault {
            Fault::FlipBit if whole > 0 => {
                let bit = self.faults.below(whole * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                Body::from(bytes.freeze())
            }
            Fault::ShortBody => {
                bytes.truncate(self.faults.below(whole));
                head.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
                Body::from(bytes.freeze())
            }
            Fault::CutBody => {
                bytes.truncate(self.faults.below(whole));
                Body::http_body(CutBody { bytes: Some(bytes.freeze()), announced: whole as u64 })
            }
            _ => Body::from(bytes.freeze()),
        };
        Ok(Response::from_parts(head, body))
    }

    fn count(&self, kind: RequestKind, change: impl FnOnce(&mut Count)) {
        change(self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default());
    }
}

fn classify(request: &Request<Incoming>) -> RequestKind {
    let path = request.uri().path().trim_start_matches('/');
    let query = request.uri().query().unwrap_or_default();
    let has_key = path.split_once('/').is_some_and(|(_, key)| !key.is_empty());
    let asks = |name: &str| query.split('&').any(|q| q.split('=').next() == Some(name));
    match (request.method(), has_key) {
        (&Method::PUT, true) if asks("partNumber") => RequestKind::Part,
        (&Method::POST, true) if asks("uploads") || asks("uploadId") => RequestKind::Multipart,
        (&Method::DELETE, true) if asks("uploadId") => RequestKind::Abort,
        (&Method::PUT, true) if request.headers().contains_key(IF_NONE_MATCH) => RequestKind::Create,
        (&Method::PUT, true) => RequestKind::Put,
        (&Method::GET, true) => RequestKind::Get,
        (&Method::HEAD, true) => RequestKind::Head,
        (&Method::DELETE, true) => RequestKind::Delete,
        (&Method::GET, false) if query.contains("list-type=2") => RequestKind::List,
        (&Method::POST, false) if query.split('&').any(|q| q == "delete" || q == "delete=") => RequestKind::Delete,
        _ => RequestKind::Other,
    }
}

/// An S3 error.
fn refusal(status: StatusCode, code: &str) -> Response<Body> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>injected</Message></Error>"
    );
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

async fn collect<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) -> Result<BytesMut, Broken> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame.map_err(|_| Broken)?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// A body that announces more than it gives, and then breaks.
struct CutBody {
    bytes: Option<Bytes>,
    announced: u64,
}

impl HttpBody for CutBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Poll::Ready(Some(self.bytes.take().map(Frame::data).ok_or(Broken)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
