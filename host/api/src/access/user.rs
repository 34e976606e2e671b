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

    /// A service account; `uid` is empty where it is not known.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let own = format!("system:serviceaccounts:{namespace}");
        let mut user = Self::new(
            format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &own],
        );
        user.uid = uid.to_owned();
        user
    }

    /// Namespace and name, where the user is a service account.
    pub(crate) fn as_service_account(&self) -> Option<(&str, &str)> {
        let account = self.name.strip_prefix("system:serviceaccount:")?;
        let (namespace, name) = account.split_once(':')?;
        (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
    }

    /// The node that the user is: none for other users, an empty name for a node of an unusual name.
    pub(crate) fn as_node(&self) -> Option<&str> {
        if !self.is_in("system:nodes") {
            return None;
        }
        self.name.strip_prefix("system:node:")
    }

    /// The values of one key of the extra.
    pub(crate) fn extra(&self, key: &str) -> &[String] {
        let found = self.extra.iter().find(|(name, _)| name == key);
        found.map_or(&[], |(_, values)| values)
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
