//! Certificates that a member makes for itself (`--auto-tls`, `--peer-auto-tls`): they encrypt, and prove nothing.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::TlsError;

/// The certificate and key in the folder, made for these hosts where there are none.
///
/// # Errors
/// When the files cannot be written.
pub(crate) fn self_signed(folder: &Path, hosts: &[String]) -> Result<(PathBuf, PathBuf), TlsError> {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if cert.exists() && key.exists() {
        return Ok((cert, key));
    }
    let made = rcgen::generate_simple_self_signed(hosts)
        .map_err(|error| TlsError::Config(format!("making a certificate: {error}")))?;
    let failed = |path: &Path, error: &std::io::Error| TlsError::File {
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    write(&key, &made.signing_key.serialize_pem()).map_err(|error| failed(&key, &error))?;
    write(&cert, &made.cert.pem()).map_err(|error| failed(&cert, &error))?;
    Ok((cert, key))
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
}
