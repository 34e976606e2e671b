//! The cluster's certificate authority as it signs requests: ECDSA P-256.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::der::{self, BIT_STRING, INTEGER, OBJECT, SEQUENCE, extension, sequence, value};
use super::request::Parsed;

/// How long a certificate lives at most and by default (`--cluster-signing-duration`), and at least.
const LIFE_SECONDS_MAX: i64 = 365 * 24 * 3600;
const LIFE_SECONDS_MIN: i64 = 600;
/// A certificate begins so long before it is made, for clocks that go slow; a short one ends earlier for it.
const BACKDATE_SECONDS: i64 = 300;
const SHORT_SECONDS: i64 = 8 * 3600;
const LINE: usize = 64;

const ECDSA_WITH_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// `2.5.29.x`: key usage, alternative names, basic constraints, authority key, extended key usage.
const KEY_USAGE: [u8; 3] = [0x55, 0x1d, 15];
const ALTERNATIVE_NAMES: [u8; 3] = [0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 19];
const AUTHORITY_KEY: [u8; 3] = [0x55, 0x1d, 35];
const EXTENDED_KEY_USAGE: [u8; 3] = [0x55, 0x1d, 37];
/// The bit of each usage, from the most significant on.
const USAGES: [(&str, u16); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];
/// The last part of each extended usage below `1.3.6.1.5.5.7.3`.
const EXTENDED_USAGES: [(&str, u8); 9] = [
    ("server auth", 1),
    ("client auth", 2),
    ("code signing", 3),
    ("email protection", 4),
    ("s/mime", 4),
    ("ipsec end system", 5),
    ("ipsec tunnel", 6),
    ("ipsec user", 7),
    ("timestamping", 8),
];
const EXTENDED_USAGE_PREFIX: [u8; 7] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03];

/// A certificate authority: its certificate (PEM) and its key (PKCS #8 DER, P-256).
#[derive(Clone)]
pub struct Authority {
    certificate_pem: String,
    key: Vec<u8>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// What of the authority's own certificate goes into those that it signs.
struct Own {
    subject: Vec<u8>,
    key_id: Option<Vec<u8>>,
    not_after: Timestamp,
}

impl Authority {
    /// From a PEM certificate and a PKCS #8 key.
    pub fn new(certificate_pem: impl Into<String>, key: Vec<u8>) -> Self {
        Self {
            certificate_pem: certificate_pem.into(),
            key,
        }
    }

    fn own(&self) -> Result<Own, String> {
        let unreadable = || "the authority's certificate is unreadable".to_owned();
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(self.certificate_pem.as_bytes()).map_err(|_| unreadable())?;
        let (_, certificate) = X509Certificate::from_der(&pem.contents).map_err(|_| unreadable())?;
        let key_id = certificate
            .extensions()
            .iter()
            .find_map(|one| match one.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
        let end = certificate.validity().not_after.timestamp();
        Ok(Own {
            subject: certificate.subject().as_raw().to_vec(),
            key_id,
            not_after: Timestamp::from_second(end).map_err(|_| unreadable())?,
        })
    }

    /// The certificate that is asked for, PEM.
    pub(super) fn sign(
        &self,
        spec: &CertificateSigningRequestSpec,
        now: Timestamp,
    ) -> Result<String, String> {
        let parsed = Parsed::read(&spec.request.0)?;
        let own = self.own()?;
        let (from, until) = life(spec.expiration_seconds, now, own.not_after);
        let random = SystemRandom::new();
        let failed = |what: &str| format!("{what} failed");
        let mut serial = [0; 16];
        random
            .fill(&mut serial)
            .map_err(|_| failed("drawing a serial number"))?;
        // Positive, and of full length.
        serial[0] = serial[0] & 0x7f | 0x40;
        let algorithm = sequence(&[&value(OBJECT, &ECDSA_WITH_SHA256)]);
        let extensions = extensions(spec.usages.as_deref().unwrap_or_default(), &parsed, &own)?;
        let body = sequence(&[
            // Version 3.
            &value(0xa0, &value(INTEGER, &[2])),
            &value(INTEGER, &serial),
            &algorithm,
            &own.subject,
            &sequence(&[&der::time(from), &der::time(until)]),
            &parsed.subject,
            &parsed.public_key,
            &value(0xa3, &value(SEQUENCE, &extensions)),
        ]);
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.key, &random)
            .map_err(|_| "the authority's key is no ECDSA P-256 key".to_owned())?;
        let signature = key.sign(&random, &body).map_err(|_| failed("signing"))?;
        let bits = [&[0][..], signature.as_ref()].concat();
        Ok(pem(&sequence(&[&body, &algorithm, &value(BIT_STRING, &bits)])))
    }
}

/// When a certificate begins and ends: never after the authority's own.
fn life(asked: Option<i32>, now: Timestamp, end: Timestamp) -> (Timestamp, Timestamp) {
    let seconds = asked.map_or(LIFE_SECONDS_MAX, |seconds| {
        i64::from(seconds).clamp(LIFE_SECONDS_MIN, LIFE_SECONDS_MAX)
    });
    let early = if seconds < SHORT_SECONDS {
        0
    } else {
        BACKDATE_SECONDS
    };
    let shift = |by: i64| now.saturating_add(SignedDuration::from_secs(by)).unwrap_or(now);
    (shift(-BACKDATE_SECONDS), shift(seconds - early).min(end))
}

fn extensions(usages: &[String], parsed: &Parsed, own: &Own) -> Result<Vec<u8>, String> {
    let mut bits: u16 = 0;
    let mut extended: Vec<u8> = Vec::new();
    for usage in usages {
        let plain = USAGES.iter().find(|(name, _)| name == usage);
        let more = EXTENDED_USAGES.iter().find(|(name, _)| name == usage);
        match (plain, more) {
            (Some((_, bit)), _) => bits |= 0x8000 >> bit,
            (_, Some((_, last))) => {
                let object = [&EXTENDED_USAGE_PREFIX[..], &[*last]].concat();
                extended.extend(value(OBJECT, &object));
            }
            _ => return Err(format!("unrecognized usage values: [{usage:?}]")),
        }
    }
    let mut all = Vec::new();
    if bits != 0 {
        let bytes = bits.to_be_bytes();
        let (length, unused) = match bytes[1] {
            0 => (1, bytes[0].trailing_zeros()),
            last => (2, last.trailing_zeros()),
        };
        let content = [&[unused.to_le_bytes()[0]][..], &bytes[..length]].concat();
        all.extend(extension(&KEY_USAGE, true, &value(BIT_STRING, &content)));
    }
    if !extended.is_empty() {
        all.extend(extension(&EXTENDED_KEY_USAGE, false, &value(SEQUENCE, &extended)));
    }
    // No authority itself.
    all.extend(extension(&BASIC_CONSTRAINTS, true, &value(SEQUENCE, &[])));
    if let Some(id) = &own.key_id {
        all.extend(extension(
            &AUTHORITY_KEY,
            false,
            &value(SEQUENCE, &value(0x80, id)),
        ));
    }
    if let Some(names) = &parsed.alternative_names {
        all.extend(extension(&ALTERNATIVE_NAMES, false, names));
    }
    Ok(all)
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
