//! `tercet certificates`: an authority, and a certificate for every node and for clients.
//!
//! They are there to try TLS with, and to show what certificates of your own must carry. The key of
//! the authority lies beside them: whoever has it can be any node, so keep it elsewhere, or use your
//! own authority, where that matters.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::env::{Rng, SplitMix64};
use common::ids::NodeId;
use common::tls::node_name;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::service::wall_clock;

/// What a certificate is valid for besides its node's name, so that clients on the same machine
/// need no other.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How long ago they begin to be valid: clocks of other machines may be behind.
const BEFORE: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The mode of a file that only its owner reads, and of one that all read.
const SECRET: u32 = 0o600;
const OPEN: u32 = 0o644;

/// What `tercet certificates` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The folder to make them in. Nothing in it is overwritten.
    pub folder: PathBuf,
    /// For how many nodes: those with ids from 1. More than there are do no harm; later ones need
    /// the same authority.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=255))]
    pub nodes: u32,
    /// A name or IP address under which clients reach a node, besides this machine's; repeat it.
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// For how many days.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
}

/// Why no certificates were made. Files that were there are as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificatesError {
    /// A file is there already. Nothing was made.
    #[error(
        "{} is there already, and nothing is overwritten: name another folder, or remove the old \
         certificates there", path.display()
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written. Those before it were.
    #[error("{}: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate cannot be made. Nothing was written.
    #[error("a certificate for {whom} cannot be made: {source}")]
    Impossible {
        /// For whom.
        whom: String,
        /// Why.
        source: rcgen::Error,
    },
}

/// The files of a folder of certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at a path, whether there is something in it or not.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// A node's certificate and key.
    pub fn node(&self, node: NodeId) -> (PathBuf, PathBuf) {
        self.pair(&format!("node-{}", node.0))
    }

    /// The clients' certificate and key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        self.pair("client")
    }

    fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.0.join(format!("{name}.pem")), self.0.join(format!("{name}.key")))
    }
}

/// Makes an authority and certificates, and writes them into the folder.
pub fn make(arguments: &Arguments) -> Result<Folder, CertificatesError> {
    let folder = Folder::at(&arguments.folder);
    let files = all(arguments, &folder)?;
    if let Some((path, ..)) = files.iter().find(|(path, ..)| path.exists()) {
        return Err(CertificatesError::Exists { path: path.clone() });
    }
    std::fs::create_dir_all(&arguments.folder)
        .map_err(|source| CertificatesError::Unwritable { path: folder.0.clone(), source })?;
    for (path, mode, text) in files {
        write(&path, mode, &text)
            .map_err(|source| CertificatesError::Unwritable { path: path.clone(), source })?;
    }
    Ok(folder)
}

/// What [`make`] made, and what to do with it, for people.
pub fn describe(arguments: &Arguments, folder: &Folder) -> String {
    let mut text = String::new();
    let Arguments { nodes, days, .. } = arguments;
    let (pem, key) = folder.node(NodeId(1));
    let (client, client_key) = folder.client();
    let ca = folder.ca();
    let shown = absolute(&folder.0);
    let _ = write!(
        text,
        "made in {} for {days} days:\n  ca.pem, ca.key            the authority; its key makes \
         further certificates: keep it away from the nodes\n  node-1.pem, node-1.key    node 1, \
         for clients and for other nodes{}\n  client.pem, client.key    clients\n\nfor the \
         configuration of node 1 (and so on):\n\n",
        shown.display(),
        if *nodes > 1 { format!("; and so on up to {nodes}") } else { String::new() },
    );
    let [pem, key, ca, client, client_key] =
        [pem, key, ca, client, client_key].map(|path| absolute(&path).display().to_string());
    for section in ["clients", "peers"] {
        let _ =
            write!(text, "[tls.{section}]\ncertificate = {pem:?}\nkey = {key:?}\nca = {ca:?}\n\n");
    }
    let _ = writeln!(
        text,
        "for clients:\n\n  redis-cli --tls --cacert {ca} --cert {client} --key {client_key}"
    );
    text
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

type Files = Vec<(PathBuf, u32, String)>;

/// All files with their modes and contents.
fn all(arguments: &Arguments, folder: &Folder) -> Result<Files, CertificatesError> {
    let dated = |names: Vec<String>, title: &str| -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, title);
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + wall_clock().saturating_sub(BEFORE);
        params.not_after = epoch + wall_clock() + DAY * arguments.days;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Ok(params)
    };
    // A name of its own, so that certificates of two of them are told apart.
    let title = format!("Tercet test authority {:08x}", SplitMix64::from_system().next_u64() >> 32);
    let authority = || {
        let mut params = dated(Vec::new(), &title)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        Ok((params.self_signed(&key)?.pem(), Issuer::new(params, key)))
    };
    let (ca, issuer) = authority()
        .map_err(|source| CertificatesError::Impossible { whom: "the authority".into(), source })?;
    let mut files = vec![
        (folder.ca(), OPEN, ca),
        (folder.0.join("ca.key"), SECRET, issuer.key().serialize_pem()),
    ];
    let mut issue = |name: &str, hosts: Vec<String>, uses: &[ExtendedKeyUsagePurpose]| {
        let made = || -> Result<_, rcgen::Error> {
            let mut params = dated(hosts, name)?;
            params.extended_key_usages = uses.to_vec();
            let key = KeyPair::generate()?;
            Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
        };
        let (certificate, key) = made()
            .map_err(|source| CertificatesError::Impossible { whom: name.to_owned(), source })?;
        let (certificate_path, key_path) = folder.pair(name);
        files.push((certificate_path, OPEN, certificate));
        files.push((key_path, SECRET, key));
        Ok(())
    };
    for id in 1..=u64::from(arguments.nodes) {
        let own = std::iter::once(node_name(NodeId(id)));
        let local = LOCAL.iter().map(|&name| name.to_owned());
        let hosts = own.chain(local).chain(arguments.host.iter().cloned()).collect();
        let uses = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        issue(&format!("node-{id}"), hosts, &uses)?;
    }
    issue("client", Vec::new(), &[ExtendedKeyUsagePurpose::ClientAuth])?;
    Ok(files)
}

fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    // Never over another file, and never readable by others for a moment.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
