//! TLS: certificates from files, and connections between nodes that prove who they are.
//!
//! The cryptography is rustls's with ring as its provider: Rust and a C compiler build it. Versions
//! are TLS 1.2 and 1.3 for clients, TLS 1.3 alone between nodes.
//!
//! Between nodes both ends show a certificate ([`TlsSockets`]). It must come from the authority that
//! all nodes trust, and carry the name of the very node, [`node_name`]: so a client's certificate of
//! the same authority opens no node's port, and a stolen key of one node does not let its thief
//! speak as another. Addresses need not stand in certificates, so that nodes may move.
//!
//! # Caveats
//!
//! - Files are read once: restart nodes one by one to give them new certificates. An open
//!   connection outlives the end of its certificate.
//! - No lists of revoked certificates: to lock a node out, change the authority.

mod explain;
mod sockets;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::ids::NodeId;

pub use explain::explain;
pub use sockets::TlsSockets;

/// The versions that clients may use.
const FOR_CLIENTS: &[&SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];
/// The version between nodes, which are all of one kind.
const FOR_NODES: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Why certificates cannot be used. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file has not what it should have.
    #[error("{origin}: it holds no {wanted} in PEM, which begins with \"-----BEGIN {mark}-----\"")]
    Lacks {
        /// The file, or what it was for.
        origin: String,
        /// What is missing.
        wanted: &'static str,
        /// How it would begin.
        mark: &'static str,
    },
    /// The certificate cannot be used: it is malformed, or the key is another one's.
    #[error("{origin}: {problem}")]
    Unusable {
        /// The file, or what it was for.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// The certificate is not this node's.
    #[error(
        "{origin}: it is not the certificate of node {node}: it does not carry the DNS name \"{}\"; \
         make one that does, as `tercet certificates` shows", node_name(*node)
    )]
    Name {
        /// The file, or what it was for.
        origin: String,
        /// This node.
        node: NodeId,
    },
}

/// The DNS name that a node's certificate carries, so that others know it by it. Nobody needs to be
/// able to look it up.
///
/// ```
/// assert_eq!(common::tls::node_name(common::ids::NodeId(7)), "node-7.tercet");
/// ```
pub fn node_name(node: NodeId) -> String {
    format!("node-{}.tercet", node.0)
}

/// A certificate, those between it and its authority, and its private key.
pub struct Credentials {
    /// Where they come from, for people.
    origin: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        let (origin, chain) = (self.origin.clone(), self.chain.clone());
        Self { origin, chain, key: self.key.clone_key() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.origin)
    }
}

impl Credentials {
    /// Reads a certificate and its key from two files in PEM.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let origin = certificate.display().to_string();
        let chain = certificates(&read(certificate)?, &origin)?;
        let key = private_key(&read(key)?, &key.display().to_string())?;
        Ok(Self { origin, chain, key })
    }

    /// The same from text. `origin` says in errors where it comes from.
    pub fn from_pem(certificate: &str, key: &str, origin: &str) -> Result<Self, TlsError> {
        let chain = certificates(certificate.as_bytes(), origin)?;
        let key = private_key(key.as_bytes(), origin)?;
        Ok(Self { origin: origin.to_owned(), chain, key })
    }

    /// Whether it is the certificate of `node`.
    fn must_name(&self, node: NodeId) -> Result<(), TlsError> {
        names(&self.chain[0], node)
            .map_err(|_| TlsError::Name { origin: self.origin.clone(), node })
    }

    fn unusable(&self, error: &rustls::Error) -> TlsError {
        let problem = match error {
            rustls::Error::InconsistentKeys(_) => {
                "the private key belongs to another certificate".to_owned()
            }
            other => other.to_string(),
        };
        TlsError::Unusable { origin: self.origin.clone(), problem }
    }
}

/// Those whose certificates are trusted.
#[derive(Clone, Debug)]
pub struct Authority(Arc<RootCertStore>);

impl Authority {
    /// Reads the certificates of one or more authorities from a file in PEM.
    pub fn load(path: &Path) -> Result<Self, TlsError> {
        Self::of(&read(path)?, &path.display().to_string())
    }

    /// The same from text. `origin` says in errors where it comes from.
    pub fn from_pem(text: &str, origin: &str) -> Result<Self, TlsError> {
        Self::of(text.as_bytes(), origin)
    }

    fn of(text: &[u8], origin: &str) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(text, origin)? {
            roots.add(certificate).map_err(|error| TlsError::Unusable {
                origin: origin.to_owned(),
                problem: error.to_string(),
            })?;
        }
        Ok(Self(Arc::new(roots)))
    }
}

/// What a server shows its clients, and demands of them: with `clients`, a certificate of that
/// authority.
pub fn server(
    own: &Credentials,
    clients: Option<&Authority>,
) -> Result<Arc<ServerConfig>, TlsError> {
    server_config(own, clients, FOR_CLIENTS).map(Arc::new)
}

/// What a client trusts, and shows if it is asked.
pub fn client(
    trusted: &Authority,
    own: Option<&Credentials>,
) -> Result<Arc<ClientConfig>, TlsError> {
    client_config(trusted, own, FOR_CLIENTS).map(Arc::new)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn refused(error: impl fmt::Display) -> TlsError {
    TlsError::Unusable { origin: "TLS".to_owned(), problem: error.to_string() }
}

fn server_config(
    own: &Credentials,
    clients: Option<&Authority>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(versions).map_err(refused)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(Authority(roots)) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider());
            builder.with_client_cert_verifier(verifier.build().map_err(refused)?)
        }
    };
    let config = builder.with_single_cert(own.chain.clone(), own.key.clone_key());
    config.map_err(|error| own.unusable(&error))
}

fn client_config(
    Authority(trusted): &Authority,
    own: Option<&Credentials>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(versions).map_err(refused)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(trusted), provider());
    let builder = builder.with_webpki_verifier(verifier.build().map_err(refused)?);
    match own {
        None => Ok(builder.with_no_client_auth()),
        Some(own) => builder
            .with_client_auth_cert(own.chain.clone(), own.key.clone_key())
            .map_err(|error| own.unusable(&error)),
    }
}

/// Whether a certificate carries the name of a node.
fn names(certificate: &CertificateDer<'_>, node: NodeId) -> Result<(), String> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(|e| e.to_string())?;
    let name = server_name(node).map_err(|e| e.to_string())?;
    rustls::client::verify_server_name(&parsed, &name).map_err(|_| {
        let name = node_name(node);
        format!(
            "it says that it is node {node}, but its certificate does not carry the name \"{name}\""
        )
    })
}

fn server_name(node: NodeId) -> std::io::Result<ServerName<'static>> {
    ServerName::try_from(node_name(node)).map_err(std::io::Error::other)
}

#[expect(clippy::disallowed_methods, reason = "configuration, read before anything is simulated")]
fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

fn certificates(text: &[u8], origin: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::Lacks {
            origin: origin.to_owned(),
            wanted: "certificate",
            mark: "CERTIFICATE",
        }),
    }
}

fn private_key(text: &[u8], origin: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|_| TlsError::Lacks {
        origin: origin.to_owned(),
        wanted: "private key without a password",
        mark: "PRIVATE KEY",
    })
}
