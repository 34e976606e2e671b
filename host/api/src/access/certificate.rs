//! The user of a client certificate: its subject's common name, with organizations as groups.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::UserInfo;

/// Whose certificate it is; none without a common name. TLS has verified it already.
pub(crate) fn user(certificate: &CertificateDer<'_>) -> Option<UserInfo> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject
        .iter_organization()
        .filter_map(|group| group.as_str().ok().map(str::to_owned));
    let user = UserInfo {
        name,
        groups: groups.collect(),
        ..UserInfo::default()
    };
    Some(user.authenticated())
}
