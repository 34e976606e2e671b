//! The cluster's certificates: made once, read ever after.
//!
//! A cluster CA signs the API server's serving certificate and every client's. Keys are ECDSA P-256. The
//! files have the names that kubeadm gives them (`ca.crt`, `apiserver.crt`, `sa.key`, ...).

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why certificates could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file is there but makes no sense.
    #[error("{} is damaged: {reason}. Restore it, or remove the whole pki folder to make all certificates anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system failed us.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file at fault.
        path: PathBuf,
        /// How.
        #[source]
        source: std::io::Error,
    },
    /// A certificate could not be made.
    #[error("certificate for {subject}: {source}")]
    Issue {
        /// Its common name.
        subject: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The certificates do not fit together.
    #[error("TLS configuration: {0}")]
    Tls(String),
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// The cluster's certificate authority and what it has signed for this process.
pub struct Pki {
    folder: PathBuf,
    authority: Issuer<'static, KeyPair>,
    ca: String,
    server: Identity,
    service_account_key: Vec<u8>,
}

impl Pki {
    /// Reads the folder's certificates, making what is missing. The serving certificate is made anew when
    /// it does not cover `names`.
    ///
    /// # Errors
    /// When a file is damaged or cannot be read or written.
    pub fn open(folder: &Path, names: &[String]) -> Result<Self, PkiError> {
        let (ca, key) = open_authority(folder, "ca", "kubernetes")?;
        let damaged = |error: rcgen::Error| PkiError::Damaged {
            path: folder.join("ca.crt"),
            reason: error.to_string(),
        };
        let authority = Issuer::from_ca_cert_pem(&ca, key).map_err(damaged)?;
        let server = open_server(folder, &authority, names)?;
        let sa_key = folder.join("sa.key");
        let service_account_key = match read(&sa_key)? {
            Some(pem) => key_from(&sa_key, &pem)?.serialize_der(),
            None => {
                let key = generate("service accounts")?;
                write(&sa_key, &key.serialize_pem())?;
                key.serialize_der()
            }
        };
        Ok(Self {
            folder: folder.to_path_buf(),
            authority,
            ca,
            server,
            service_account_key,
        })
    }

    /// The CA certificate, PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The CA's key, DER (PKCS #8, P-256): what signs certificate requests.
    pub fn ca_key(&self) -> Vec<u8> {
        self.authority.key().serialize_der()
    }

    /// The key that signs service account tokens, DER (PKCS #8, P-256).
    pub fn service_account_key(&self) -> &[u8] {
        &self.service_account_key
    }

    /// A client certificate for `user` in `groups`, kept as `<name>.crt` and `<name>.key`.
    ///
    /// # Errors
    /// When its files are damaged or cannot be read or written.
    pub fn client(&self, name: &str, user: &str, groups: &[&str]) -> Result<Identity, PkiError> {
        self.signed_client(&self.authority, name, user, groups)
    }

    fn signed_client(
        &self,
        authority: &Issuer<'_, KeyPair>,
        name: &str,
        user: &str,
        groups: &[&str],
    ) -> Result<Identity, PkiError> {
        let (certificate, key) = (
            self.folder.join(format!("{name}.crt")),
            self.folder.join(format!("{name}.key")),
        );
        if let (Some(certificate), Some(pem)) = (read(&certificate)?, read(&key)?) {
            key_from(&key, &pem)?;
            return Ok(Identity {
                certificate,
                key: pem,
            });
        }
        let mut params = parameters(user, groups);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let identity = issue(authority, params, user)?;
        write(&key, &identity.key)?;
        write(&certificate, &identity.certificate)?;
        Ok(identity)
    }

    /// What the API server shows to extension servers, and the authority of its own that signs it: nobody
    /// else may speak in a user's name. Kept as `front-proxy-client` and `front-proxy-ca`.
    ///
    /// # Errors
    /// When its files are damaged or cannot be read or written.
    pub fn front_proxy(&self) -> Result<(Identity, String), PkiError> {
        let (ca, key) = open_authority(&self.folder, "front-proxy-ca", "front-proxy-ca")?;
        let damaged = |error: rcgen::Error| PkiError::Damaged {
            path: self.folder.join("front-proxy-ca.crt"),
            reason: error.to_string(),
        };
        let authority = Issuer::from_ca_cert_pem(&ca, key).map_err(damaged)?;
        let identity = self.signed_client(&authority, "front-proxy-client", "front-proxy-client", &[])?;
        Ok((identity, ca))
    }

    /// How the API server serves: its certificate, and client certificates of this CA accepted but not
    /// demanded.
    ///
    /// # Errors
    /// When the certificates do not fit together.
    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        let tls = |error: &dyn std::fmt::Display| PkiError::Tls(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.ca.as_bytes()).map_err(|error| tls(&error))?;
        roots.add(ca).map_err(|error| tls(&error))?;
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| tls(&error))?;
        let chain = CertificateDer::pem_slice_iter(self.server.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| tls(&error))?;
        let key = PrivateKeyDer::from_pem_slice(self.server.key.as_bytes()).map_err(|error| tls(&error))?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| tls(&error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(|error| tls(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// An authority of that name, in `<file>.crt` and `<file>.key`.
fn open_authority(folder: &Path, file: &str, name: &str) -> Result<(String, KeyPair), PkiError> {
    let (certificate, key) = (
        folder.join(format!("{file}.crt")),
        folder.join(format!("{file}.key")),
    );
    match (read(&certificate)?, read(&key)?) {
        (Some(ca), Some(pem)) => Ok((ca, key_from(&key, &pem)?)),
        (Some(_), None) => Err(PkiError::Damaged {
            path: key,
            reason: "it is missing".into(),
        }),
        _ => {
            let pair = generate(name)?;
            let mut params = parameters(name, &[]);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![
                KeyUsagePurpose::KeyCertSign,
                KeyUsagePurpose::CrlSign,
                KeyUsagePurpose::DigitalSignature,
            ];
            let failed = |source| PkiError::Issue {
                subject: name.to_owned(),
                source,
            };
            let ca = params.self_signed(&pair).map_err(failed)?.pem();
            write(&key, &pair.serialize_pem())?;
            write(&certificate, &ca)?;
            Ok((ca, pair))
        }
    }
}

fn open_server(
    folder: &Path,
    authority: &Issuer<'_, KeyPair>,
    names: &[String],
) -> Result<Identity, PkiError> {
    let (certificate, key) = (folder.join("apiserver.crt"), folder.join("apiserver.key"));
    if let (Some(pem), Some(key_pem)) = (read(&certificate)?, read(&key)?) {
        key_from(&key, &key_pem)?;
        if covers(&certificate, &pem, names)? {
            return Ok(Identity {
                certificate: pem,
                key: key_pem,
            });
        }
    }
    let mut params = parameters("kube-apiserver", &[]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.clone().try_into().map_err(|source| PkiError::Issue {
                subject: name.clone(),
                source,
            })?),
        });
    }
    let identity = issue(authority, params, "kube-apiserver")?;
    write(&key, &identity.key)?;
    write(&certificate, &identity.certificate)?;
    Ok(identity)
}

/// Whether the certificate names all of `names` and has not run out.
fn covers(path: &Path, pem: &str, names: &[String]) -> Result<bool, PkiError> {
    let damaged = |reason: String| PkiError::Damaged {
        path: path.to_path_buf(),
        reason,
    };
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| damaged(error.to_string()))?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(&der).map_err(|error| damaged(error.to_string()))?;
    if !certificate.validity().is_valid() {
        return Ok(false);
    }
    let alternatives = certificate
        .subject_alternative_name()
        .map_err(|error| damaged(error.to_string()))?;
    let mut covered = Vec::new();
    for name in alternatives
        .iter()
        .flat_map(|extension| &extension.value.general_names)
    {
        match name {
            x509_parser::extensions::GeneralName::DNSName(name) => covered.push((*name).to_owned()),
            x509_parser::extensions::GeneralName::IPAddress([a, b, c, d]) => {
                covered.push(IpAddr::from([*a, *b, *c, *d]).to_string());
            }
            x509_parser::extensions::GeneralName::IPAddress(bytes) => {
                if let Ok(octets) = <[u8; 16]>::try_from(*bytes) {
                    covered.push(IpAddr::from(octets).to_string());
                }
            }
            _ => {}
        }
    }
    Ok(names.iter().all(|name| covered.contains(name)))
}

fn parameters(common_name: &str, organizations: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    for organization in organizations {
        subject.push(DnType::OrganizationName, *organization);
    }
    params.distinguished_name = subject;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn issue(
    authority: &Issuer<'_, KeyPair>,
    params: CertificateParams,
    subject: &str,
) -> Result<Identity, PkiError> {
    let key = generate(subject)?;
    let failed = |source| PkiError::Issue {
        subject: subject.to_owned(),
        source,
    };
    let certificate = params.signed_by(&key, authority).map_err(failed)?;
    Ok(Identity {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn generate(subject: &str) -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(|source| PkiError::Issue {
        subject: subject.to_owned(),
        source,
    })
}

fn key_from(path: &Path, pem: &str) -> Result<KeyPair, PkiError> {
    KeyPair::from_pem(pem).map_err(|error| PkiError::Damaged {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::Io {
            path: path.to_path_buf(),
            source,
        }),
    }
}

/// Writes the file whole or not at all, readable by its owner alone.
fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    let failed = |source| PkiError::Io {
        path: path.to_path_buf(),
        source,
    };
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn what_was_made_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let made = Pki::open(folder.path(), &names(&["localhost", "127.0.0.1"])).unwrap();
        let admin = made
            .client("admin", "kubernetes-admin", &["system:masters"])
            .unwrap();
        let found = Pki::open(folder.path(), &names(&["127.0.0.1"])).unwrap();
        assert_eq!(made.ca(), found.ca());
        assert_eq!(made.server.certificate, found.server.certificate);
        let again = found
            .client("admin", "kubernetes-admin", &["system:masters"])
            .unwrap();
        assert_eq!(admin.certificate, again.certificate);
        found.server_config().unwrap();
    }

    #[test]
    fn a_new_name_gets_a_new_serving_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let before = Pki::open(folder.path(), &names(&["localhost"])).unwrap();
        let after = Pki::open(folder.path(), &names(&["localhost", "10.0.0.1"])).unwrap();
        assert_ne!(before.server.certificate, after.server.certificate);
        assert_eq!(before.ca(), after.ca());
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        drop(Pki::open(folder.path(), &names(&["localhost"])).unwrap());
        fs::write(folder.path().join("ca.key"), "garbage").unwrap();
        let error = Pki::open(folder.path(), &names(&["localhost"]))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("ca.key is damaged"), "{error}");
    }
}
