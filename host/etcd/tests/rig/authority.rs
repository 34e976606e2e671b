//! An authority that signs certificates for a test.

use std::path::PathBuf;

use capstan_etcd::tls::ClientTls;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority in a folder, and what it signs.
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let ca = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.crt"), ca.pem()).unwrap();
        Self {
            folder,
            issuer: Issuer::new(params, key),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `<name>.crt` and `<name>.key`.
    pub fn sign(&self, name: &str, common_name: &str) {
        self.sign_for(name, common_name, &[]);
    }

    /// The same for more hosts than this machine's usual ones.
    pub fn sign_for(&self, name: &str, common_name: &str, hosts: &[String]) {
        let key = KeyPair::generate().unwrap();
        let mut names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        names.extend_from_slice(hosts);
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.crt")), cert.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    pub fn client(&self, name: &str) -> ClientTls {
        ClientTls {
            ca: Some(self.path("ca.crt")),
            cert: Some(self.path(&format!("{name}.crt"))),
            key: Some(self.path(&format!("{name}.key"))),
            ..ClientTls::default()
        }
    }
}
