//! Servers to talk to, and a client that sees every byte.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::ids::NodeId;
use server::backend::{Backend, Local};
use server::listener::{Counters, Identity, Limits, Service, serve};
use server::resp::{Value, read};
use server::users::Users;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_rustls::rustls::ServerConfig;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// This program's server over the machine in this process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) service: Arc<Service>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<tokio::task::JoinHandle<()>>,
    runtime: Runtime,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(Arc::new(Local::new()), Limits::default())
    }

    pub(crate) fn start_with(backend: Arc<dyn Backend>, limits: Limits) -> Self {
        Self::start_for(backend, limits, Users::default())
    }

    pub(crate) fn start_for(backend: Arc<dyn Backend>, limits: Limits, users: Users) -> Self {
        Self::start_as(backend, limits, users, None)
    }

    /// One whose clients connect with TLS.
    pub(crate) fn start_tls(limits: Limits, tls: Arc<ServerConfig>) -> Self {
        Self::start_as(Arc::new(Local::new()), limits, Users::default(), Some(tls))
    }

    fn start_as(
        backend: Arc<dyn Backend>,
        limits: Limits,
        users: Users,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let identity = Identity {
            cluster: "test".into(),
            node: NodeId(1),
            addresses: BTreeMap::from([(NodeId(1), address.to_string())]),
            version: "0.1.0".into(),
        };
        let service = Service::with_tls(backend, identity, limits, users, tls);
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = runtime.spawn(serve(listener, Arc::clone(&service), shutdown));
        Self { address, service, stop: Some(stop), task: Some(task), runtime }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::over(self.open())
    }

    /// A socket on which nothing was said yet.
    pub(crate) fn open(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// Waits until something holds for what the server has counted.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Counters) -> bool) {
        let begin = Instant::now();
        while !holds(self.service.counters()) {
            assert!(begin.elapsed() < PATIENCE, "it never came to this: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Begins to stop, without waiting.
    pub(crate) fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Waits until it has stopped.
    pub(crate) fn join(&mut self) {
        if let Some(task) = self.task.take() {
            self.runtime.block_on(task).expect("serving ends");
        }
    }
}

/// A real `redis-server` on a socket in a folder of its own. It ends with this.
pub(crate) struct RealRedis {
    process: Child,
    folder: TempDir,
}

impl RealRedis {
    /// Starts one, or `None` where none is installed, saying so. With `TERCET_REQUIRE_CLIENTS=1`
    /// that is a failure.
    pub(crate) fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--unixsocket", "socket", "--save", "", "--databases", "1"]);
        command.args(["--appendonly", "no", "--daemonize", "no"]);
        command.current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(process) => {
                let mut this = Self { process, folder };
                this.wait();
                Some(this)
            }
            Err(error) => {
                let required = std::env::var("TERCET_REQUIRE_CLIENTS").is_ok_and(|v| v == "1");
                assert!(!required, "redis-server is required: {error}");
                println!("skipped: no redis-server ({error})");
                None
            }
        }
    }

    fn wait(&mut self) {
        let begin = Instant::now();
        loop {
            if UnixStream::connect(self.folder.path().join("socket")).is_ok() {
                return;
            }
            let ended = self.process.try_wait().expect("a child");
            assert!(ended.is_none(), "redis-server ended: {ended:?}");
            assert!(begin.elapsed() < PATIENCE, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = UnixStream::connect(self.folder.path().join("socket")).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Client { stream: Box::new(stream), received: Vec::new() }
    }

    /// Whether it is a Redis 7.0, the release whose replies are ours.
    pub(crate) fn is_of_our_release(&self) -> bool {
        let info = self.connect().ask(&words("INFO server"));
        String::from_utf8_lossy(&info).contains("redis_version:7.0.")
    }
}

impl Drop for RealRedis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What both kinds of socket can do.
pub(crate) trait Stream: Read + Write + Send {
    fn end(&self);
}

impl Stream for TcpStream {
    fn end(&self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}

impl Stream for UnixStream {
    fn end(&self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}

/// A client that sends bytes and reads replies one by one.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), received: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes what it is sent");
    }

    /// Sends what the server may no longer take.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The bytes of the next reply.
    pub(crate) fn reply(&mut self) -> Vec<u8> {
        loop {
            if let Some((_, length)) = read(&self.received).expect("a reply of the protocol") {
                return self.received.drain(..length).collect();
            }
            assert!(self.receive(), "the connection is closed: {:?}", self.received);
        }
    }

    pub(crate) fn value(&mut self) -> Value {
        let bytes = self.reply();
        read(&bytes).expect("a reply").expect("a whole one").0
    }

    /// Sends a command and reads its reply's bytes.
    pub(crate) fn ask(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        self.send(&encode(words));
        self.reply()
    }

    /// Sends a command of a line and reads its reply.
    pub(crate) fn say(&mut self, line: &str) -> Value {
        self.send(&encode(&words(line)));
        self.value()
    }

    /// Sends no more, and reads all that comes until the other side closes.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.stream.end();
        self.rest()
    }

    /// Reads all that comes until the other side closes.
    pub(crate) fn rest(mut self) -> Vec<u8> {
        while self.receive() {}
        self.received
    }

    /// Whether more came, rather than the end.
    fn receive(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                self.received.extend_from_slice(&chunk[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => false,
            Err(error) => panic!("nothing comes: {error}; so far {:?}", self.received),
        }
    }
}

/// The words of a line, split at single spaces; `""` is an empty word.
pub(crate) fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| if word == "\"\"" { Vec::new() } else { word.into() }).collect()
}

/// A request.
pub(crate) fn encode<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend(word);
        bytes.extend(b"\r\n");
    }
    bytes
}
