//! A certificate request as its author made it, and what each of Kubernetes' own signers asks of one. Pure.

use std::collections::BTreeSet;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

pub(super) const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub(super) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub(super) const LEGACY: &str = "kubernetes.io/legacy-unknown";
/// Those that sign here.
pub(super) const SIGNERS: [&str; 4] = [CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY];

/// What a request says.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) common_name: String,
    organizations: Vec<String>,
    dns_names: usize,
    addresses: usize,
    emails: usize,
    uris: usize,
    /// DER of the subject's name, its public key, and the alternative names' extension value.
    pub(super) subject: Vec<u8>,
    pub(super) public_key: Vec<u8>,
    pub(super) alternative_names: Option<Vec<u8>>,
}

impl Parsed {
    /// Reads PEM, and verifies that who made it has the key.
    pub(super) fn read(pem: &[u8]) -> Result<Self, String> {
        const NO_PEM: &str = "PEM block type must be CERTIFICATE REQUEST";
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| NO_PEM.to_owned())?;
        if pem.label != "CERTIFICATE REQUEST" {
            return Err(NO_PEM.to_owned());
        }
        let malformed = |_| "the certificate request is malformed".to_owned();
        let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).map_err(malformed)?;
        parsed
            .verify_signature()
            .map_err(|_| "the certificate request's signature is invalid".to_owned())?;
        let info = &parsed.certification_request_info;
        let read =
            |part: &x509_parser::x509::AttributeTypeAndValue<'_>| part.as_str().ok().map(str::to_owned);
        let mut request = Self {
            common_name: info.subject.iter_common_name().find_map(read).unwrap_or_default(),
            organizations: info.subject.iter_organization().filter_map(read).collect(),
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            ..Self::default()
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else {
                continue;
            };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(_) => request.dns_names += 1,
                    GeneralName::IPAddress(_) => request.addresses += 1,
                    GeneralName::RFC822Name(_) => request.emails += 1,
                    GeneralName::URI(_) => request.uris += 1,
                    _ => return Err("a subject alternative name is of a kind that is not signed".to_owned()),
                }
            }
            request.alternative_names = Some(super::der::general_names(&names.general_names));
        }
        Ok(request)
    }

    /// Whether the signer signs such a request for these usages.
    pub(super) fn suits(&self, signer: &str, usages: &[String]) -> Result<(), String> {
        let usages: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
        match signer {
            CLIENT => client_usages(&usages),
            KUBELET_CLIENT => {
                self.of_a_node()?;
                self.has_none(true)?;
                self.named_as_node()?;
                exactly(&usages, "client auth")
            }
            KUBELET_SERVING => {
                self.of_a_node()?;
                if self.dns_names + self.addresses == 0 {
                    return Err("DNS or IP subjectAltName is required".to_owned());
                }
                self.has_none(false)?;
                exactly(&usages, "server auth")?;
                self.named_as_node()
            }
            _ => Ok(()),
        }
    }

    fn of_a_node(&self) -> Result<(), String> {
        match self.organizations.as_slice() {
            [one] if one == "system:nodes" => Ok(()),
            _ => Err("subject organization is not system:nodes".to_owned()),
        }
    }

    fn named_as_node(&self) -> Result<(), String> {
        match self.common_name.starts_with("system:node:") {
            true => Ok(()),
            false => Err("subject common name does not begin with system:node:".to_owned()),
        }
    }

    fn has_none(&self, of_hosts: bool) -> Result<(), String> {
        let counts = [
            (of_hosts && self.dns_names > 0, "DNS"),
            (self.emails > 0, "Email"),
            (of_hosts && self.addresses > 0, "IP"),
            (self.uris > 0, "URI"),
        ];
        match counts.into_iter().find(|(there, _)| *there) {
            Some((_, kind)) => Err(format!("{kind} subjectAltNames are not allowed")),
            None => Ok(()),
        }
    }
}

fn exactly(usages: &BTreeSet<&str>, own: &str) -> Result<(), String> {
    let (short, long) = (
        BTreeSet::from([own, "digital signature"]),
        BTreeSet::from([own, "digital signature", "key encipherment"]),
    );
    if *usages == short || *usages == long {
        return Ok(());
    }
    let shown: Vec<&str> = long.into_iter().collect();
    Err(format!("usages did not match [{}]", shown.join(" ")))
}

fn client_usages(usages: &BTreeSet<&str>) -> Result<(), String> {
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !known.contains(usage)) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    match usages.contains("client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".to_owned()),
    }
}
