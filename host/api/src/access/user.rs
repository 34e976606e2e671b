//! An identity, as `kubectl auth whoami` shows it.

/// A user with groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserInfo {
    /// Name, such as `system:kube-scheduler`.
    pub name: String,
    /// Identifier that outlives the name; a service account's uid, otherwise mostly empty.
    pub uid: String,
    /// Groups, such as `system:masters`.
    pub groups: Vec<String>,
    /// More about the user.
    pub extra: Vec<(String, Vec<String>)>,
}

/// Everybody who was recognized.
const AUTHENTICATED: &str = "system:authenticated";

impl UserInfo {
    /// A user with groups and nothing else.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Self {
            name: name.into(),
            groups,
            ..Self::default()
        }
    }

    /// One who may do everything: `system:masters`.
    pub fn admin(name: impl Into<String>) -> Self {
        Self::new(name, &["system:masters"])
    }

    /// Nobody.
    pub(crate) fn anonymous() -> Self {
        Self::new("system:anonymous", &["system:unauthenticated"])
    }

    /// A service account.
    pub(crate) fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let own = format!("system:serviceaccounts:{namespace}");
        let mut user = Self::new(
            format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &own],
        );
        user.uid = uid.to_owned();
        user
    }

    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }

    /// With the group of all recognized users.
    pub(crate) fn authenticated(mut self) -> Self {
        if !self.is_in(AUTHENTICATED) && !self.is_in("system:unauthenticated") {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}
