//! Who each part of this process is to the API server: the users, groups and service accounts that the
//! original's parts have, bound by their default roles, by the node authorizer and by NodeRestriction.
//!
//! Nobody but the installer is in `system:masters`. Called by the composition root. Not here: the roles, which
//! are the API server's (`host/api/data/roles.yaml`).

use capstan_api::{ApiServer, Local, UserInfo};
use capstan_client::Accounts;
use kube::Client;

/// Where the accounts of the cluster's own parts are.
const HOME: &str = "kube-system";

/// Clients of the API server in this process, each as somebody else.
pub(crate) struct Identities {
    service: Local,
}

impl Identities {
    pub(crate) fn of(api: &ApiServer) -> Self {
        Self {
            service: api.service(UserInfo::default()),
        }
    }

    /// Who sets a cluster up, as `kubeadm` does with the administrator's kubeconfig: default objects and the
    /// control plane's role label, which a kubelet may not give itself.
    pub(crate) fn installer(&self) -> Client {
        client(&self.service, UserInfo::admin("kubernetes-admin"))
    }

    /// A part with a user name of its own, such as `system:kube-scheduler`.
    pub(crate) fn user(&self, name: &str) -> Client {
        client(&self.service, UserInfo::new(name, &[]))
    }

    /// The kubelet of a node.
    pub(crate) fn node(&self, name: &str) -> Client {
        let user = UserInfo::new(format!("system:node:{name}"), &["system:nodes"]);
        client(&self.service, user)
    }

    /// A service account of `kube-system`.
    pub(crate) fn account(&self, name: &str) -> Client {
        client(&self.service, UserInfo::service_account(HOME, name, ""))
    }

    /// The service accounts of controllers (`--use-service-account-credentials`).
    pub(crate) fn accounts(&self) -> Accounts {
        let service = self.service.clone();
        Accounts::each(move |name| client(&service, UserInfo::service_account(HOME, name, "")))
    }
}

fn client(service: &Local, user: UserInfo) -> Client {
    capstan_client::over(service.acting_as(user))
}
