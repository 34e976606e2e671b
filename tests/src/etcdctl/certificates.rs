use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// Writes `ca.crt`, and of each of `server` (for these addresses), `root` and `guest` a `.crt` and a `.key`,
/// all signed by that authority; the names are the certificates' common names.
pub(crate) fn write(folder: &Path, addresses: &[Ipv4Addr]) -> Result<(), Box<dyn std::error::Error>> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "authority");
    let key = KeyPair::generate()?;
    fs::write(folder.join("ca.crt"), authority.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(authority, key);
    for name in ["server", "root", "guest"] {
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.subject_alt_names = addresses
            .iter()
            .map(|address| SanType::IpAddress(IpAddr::V4(*address)))
            .collect();
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &issuer)?;
        fs::write(folder.join(name).with_extension("crt"), certificate.pem())?;
        fs::write(folder.join(name).with_extension("key"), key.serialize_pem())?;
    }
    Ok(())
}
