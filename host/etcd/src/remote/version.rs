//! What a member can do, by its version.

use std::fmt;

use tonic::Status;

use super::session::Headers;
use crate::link::Link;
use crate::proto::etcdserverpb::StatusRequest;
use crate::proto::etcdserverpb::maintenance_client::MaintenanceClient;

/// A version of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version([u16; 3]);

impl Version {
    /// Watches have had their fragments and client-chosen ids since then.
    pub(super) const OLDEST: Self = Self([3, 4, 0]);

    /// Reads `3.5.13` or `3.6.0-rc.1`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let release = text.split(['-', '+']).next()?;
        let mut parts = release.split('.').map(str::parse);
        let mut part = || parts.next()?.ok();
        Some(Self([part()?, part()?, part().unwrap_or(0)]))
    }

    /// Whether progress that is asked for never comes ahead of events: before, it could. The versions are
    /// those that kube-apiserver trusts.
    pub(super) fn has_sound_progress_requests(self) -> bool {
        self >= Self([3, 5, 13]) || (self >= Self([3, 4, 31]) && self < Self([3, 5, 0]))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(formatter, "{major}.{minor}.{patch}")
    }
}

/// Asks a member for its version.
pub(super) async fn of(link: Link, headers: &Headers) -> Result<Version, Status> {
    let request = headers.on(StatusRequest {});
    let answer = MaintenanceClient::new(link).status(request).await?.into_inner();
    Version::parse(&answer.version)
        .ok_or_else(|| Status::failed_precondition(format!("\"{}\" is no version of etcd", answer.version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        for (text, sound) in [
            ("3.4.23", false),
            ("3.4.31", true),
            ("3.5.0", false),
            ("3.5.12", false),
            ("3.5.13", true),
            ("3.6.0-rc.1", true),
            ("4.0", true),
        ] {
            let version = Version::parse(text).unwrap();
            assert_eq!(version.has_sound_progress_requests(), sound, "{text}");
        }
        assert!(Version::parse("3.3.25").unwrap() < Version::OLDEST);
        assert_eq!(Version::parse("unknown"), None);
    }
}
