//! What went wrong with a handshake, in words that say what to do.

use std::io;

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

/// Why a TLS connection could not be made or broke, seen from this end.
pub fn explain(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(error) => of_tls(error),
        None if is_cut(error.kind()) => {
            "it closed the connection in the TLS handshake: it may not speak TLS".to_owned()
        }
        None => error.to_string(),
    }
}

/// A handshake that the other end does not understand ends like this.
fn is_cut(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

fn of_tls(error: &Error) -> String {
    match error {
        Error::InvalidMessage(_) => {
            "it does not speak TLS, and this port takes nothing else".to_owned()
        }
        Error::NoCertificatesPresented => {
            "it showed no certificate, and this port demands one".to_owned()
        }
        Error::InvalidCertificate(certificate) => of_certificate(certificate),
        Error::AlertReceived(alert) => of_alert(*alert),
        other => other.to_string(),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        // An authority of the same name with another key makes the second.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is from an authority that is not trusted here: check the CA file"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("its certificate has expired ({error})")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("its certificate is not valid yet: check the clocks ({error})")
        }
        other => format!("its certificate is refused: {other}"),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it does not trust the authority of the certificate that it was shown".to_owned()
        }
        AlertDescription::CertificateRequired => {
            "it demands a certificate, and was shown none".to_owned()
        }
        AlertDescription::CertificateExpired => {
            "it says that the certificate that it was shown has expired".to_owned()
        }
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it refuses the certificate that it was shown".to_owned()
        }
        other => format!("it ended the TLS handshake with the alert {other:?}"),
    }
}
