//! Clients over TLS, with rustls by hand on their side.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use common::ids::NodeId;
use common::tls::{Authority, Credentials};
use server::certificates::{Arguments, Folder, make};
use server::listener::Limits;
use server::resp::Value;
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, ServerConfig, StreamOwned,
};

use crate::support::{Client, Server, Stream, encode};

type Secured = StreamOwned<ClientConnection, TcpStream>;

impl Stream for Secured {
    fn end(&self) {
        let _ = self.sock.shutdown(std::net::Shutdown::Write);
    }
}

/// An authority with its certificates, gone with this.
struct Office {
    folder: Folder,
    _temporary: TempDir,
}

impl Office {
    fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a folder");
        let path: PathBuf = temporary.path().join("certificates");
        let folder = make(&Arguments { folder: path, nodes: 1, host: Vec::new(), days: 1 });
        Self { folder: folder.expect("certificates"), _temporary: temporary }
    }

    fn authority(&self) -> Authority {
        Authority::load(&self.folder.ca()).expect("an authority")
    }

    /// What the server shows, and demands if `clients` says so.
    fn server(&self, clients: Option<&Authority>) -> Arc<ServerConfig> {
        let (certificate, key) = self.folder.node(NodeId(1));
        let own = Credentials::load(&certificate, &key).expect("credentials");
        common::tls::server(&own, clients).expect("a configuration")
    }

    fn client(&self) -> Credentials {
        let (certificate, key) = self.folder.client();
        Credentials::load(&certificate, &key).expect("credentials")
    }

    /// A client that trusts this authority.
    fn trusting(&self, own: Option<&Credentials>) -> Arc<ClientConfig> {
        common::tls::client(&self.authority(), own).expect("a configuration")
    }
}

fn secured(server: &Server, config: Arc<ClientConfig>) -> Secured {
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let connection = ClientConnection::new(config, name).expect("a connection");
    StreamOwned::new(connection, server.open())
}

fn connect(server: &Server, config: Arc<ClientConfig>) -> Client {
    Client::over(secured(server, config))
}

/// How an exchange ends for a client that is refused.
fn refused(server: &Server, config: Arc<ClientConfig>) -> String {
    let mut stream = secured(server, config);
    let mut answer = Vec::new();
    let sent = stream.write_all(&encode(&["PING"])).and_then(|()| stream.flush());
    let ended = sent.and_then(|()| stream.read_to_end(&mut answer));
    assert!(answer.is_empty(), "it was served");
    ended.expect_err("it was not refused").to_string()
}

#[test]
fn a_client_is_served_over_each_version_of_tls() {
    let office = Office::new();
    let server = Server::start_tls(Limits::default(), office.server(None));
    for version in [ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2] {
        let mut config = ClientConfig::clone(&office.trusting(None));
        if version == ProtocolVersion::TLSv1_2 {
            config = older(&office);
        }
        let mut stream = secured(&server, Arc::new(config));
        stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        assert_eq!(stream.conn.protocol_version(), Some(version));
        let mut client = Client::over(stream);
        assert_eq!(client.say("SET a 1"), Value::OK);
        assert_eq!(client.say("GET a"), Value::bulk("1"));
    }
}

/// A client that knows TLS 1.2 only.
fn older(office: &Office) -> ClientConfig {
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::{RootCertStore, crypto::ring::default_provider, version::TLS12};
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(office.folder.ca()).expect("a certificate");
    roots.add(ca).expect("an authority");
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(&[&TLS12]).expect("a version");
    builder.with_root_certificates(roots).with_no_client_auth()
}

#[test]
fn long_pipelines_and_large_values_pass_whole_and_in_order() {
    let office = Office::new();
    let server = Server::start_tls(Limits::default(), office.server(None));
    let mut client = connect(&server, office.trusting(None));
    client.send(&encode(&["SET", "large", &"x".repeat(1 << 20)]));
    assert_eq!(client.value(), Value::OK);
    let round = [encode(&["GET", "large"]), encode(&["INCR", "n"])].concat();
    client.send(&round.repeat(40));
    for expected in 1..=40 {
        assert!(matches!(client.value(), Value::Bulk(value) if value.len() == 1 << 20));
        assert_eq!(client.value(), Value::Integer(expected));
    }
    let bytes: Vec<u8> = (0..5_000).flat_map(|_| encode(&["INCR", "n"])).collect();
    client.send(&bytes);
    for expected in 41..=5_040 {
        assert_eq!(client.value(), Value::Integer(expected));
    }
}

#[test]
fn a_plain_client_is_told_to_use_tls_and_the_server_goes_on() {
    let office = Office::new();
    let server = Server::start_tls(Limits::default(), office.server(None));
    let mut witness = connect(&server, office.trusting(None));
    assert_eq!(witness.say("SET a 1"), Value::OK);
    for bytes in [encode(&["SET", "a", "2"]), b"PING\r\n".to_vec(), vec![0; 3_000]] {
        let mut plain = server.connect();
        plain.send(&bytes);
        let answer = plain.rest();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("-ERR this port speaks TLS only;"), "{answer}");
        assert_eq!(witness.say("GET a"), Value::bulk("1"));
    }
    // What only begins like TLS is an error of the handshake.
    let mut stream = server.open();
    stream.write_all(&[0x16, 3, 1, 0, 4, 9, 9, 9, 9]).expect("it is taken");
    drop(Client::over(stream).rest());
    server.until("four are counted", |c| c.handshakes_failed.load(Relaxed) == 4);
    assert_eq!(witness.say("PING"), Value::bulk("PONG"));
}

#[test]
fn with_an_authority_for_clients_only_their_certificates_are_let_in() {
    let (office, other) = (Office::new(), Office::new());
    let server = Server::start_tls(Limits::default(), office.server(Some(&office.authority())));
    let own = office.client();
    assert_eq!(connect(&server, office.trusting(Some(&own))).say("SET a 1"), Value::OK);
    let none = refused(&server, office.trusting(None));
    assert!(none.contains("CertificateRequired") || none.contains("reset"), "{none}");
    let stranger = other.client();
    let unknown = refused(&server, office.trusting(Some(&stranger)));
    assert!(unknown.contains("UnknownCA") || unknown.contains("reset"), "{unknown}");
    // And a client that does not know the server's authority goes away by itself.
    let distrust = refused(&server, other.trusting(Some(&own)));
    assert!(distrust.contains("UnknownIssuer"), "{distrust}");
    server.until("three are counted", |c| c.handshakes_failed.load(Relaxed) == 3);
}

#[test]
fn a_handshake_has_a_deadline_and_counts_as_a_client() {
    let office = Office::new();
    let mut limits = Limits::default();
    limits.connections = 1;
    limits.handshake = Duration::from_secs(2);
    let server = Server::start_tls(limits, office.server(None));
    let silent = server.open();
    server.until("it is a client", |c| c.open.load(Relaxed) == 1);
    let why = refused(&server, office.trusting(None));
    assert!(!why.is_empty());
    server.until("it was one too many", |c| c.refused.load(Relaxed) == 1);
    server.until("its time is over", |c| c.handshakes_failed.load(Relaxed) == 1);
    server.until("and its place is free", |c| c.open.load(Relaxed) == 0);
    assert_eq!(connect(&server, office.trusting(None)).say("PING"), Value::bulk("PONG"));
    drop(silent);
}

#[test]
fn a_client_that_takes_no_replies_is_let_go_under_tls_too() {
    let office = Office::new();
    let mut limits = Limits::default();
    limits.unsent_bytes = 1 << 20;
    limits.stall = Duration::from_millis(300);
    let server = Server::start_tls(limits, office.server(None));
    let mut lazy = connect(&server, office.trusting(None));
    let mut busy = connect(&server, office.trusting(None));
    busy.send(&encode(&["SET", "large", &"x".repeat(1 << 20)]));
    assert_eq!(busy.value(), Value::OK);
    lazy.send(&encode(&["GET", "large"]).repeat(200));
    server.until("it is let go", |c| c.timed_out.load(Relaxed) == 1);
    assert_eq!(busy.say("PING"), Value::bulk("PONG"));
}

#[test]
fn a_server_that_stops_waits_for_no_handshake_and_says_farewell() {
    let office = Office::new();
    let mut server = Server::start_tls(Limits::default(), office.server(None));
    let silent = server.open();
    let mut client = connect(&server, office.trusting(None));
    assert_eq!(client.say("PING"), Value::bulk("PONG"));
    server.until("both are clients", |c| c.open.load(Relaxed) == 2);
    server.begin_stop();
    // An end without the farewell of TLS would be an error of the client's.
    assert!(client.rest().is_empty());
    server.join();
    drop(silent);
}
