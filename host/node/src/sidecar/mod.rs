//! Sidecar logic attached to pods: log lines on their way to storage, metrics pages in another form.

use capstan_points::Seats;
use capstan_points::sidecar::Sidecar;
use capstan_runtime::ContainerStatus;
use k8s_openapi::api::core::v1::Pod;

use crate::context::Node;

/// The sidecars of this node's pods.
pub(crate) struct Sidecars {
    seats: Seats<dyn Sidecar>,
}

impl Sidecars {
    pub(crate) fn new(seats: Seats<dyn Sidecar>) -> Self {
        Self { seats }
    }

    pub(crate) fn log_path(&self, _pod: &Pod, container: &str, attempt: u32) -> String {
        format!("{container}/{attempt}.log")
    }

    pub(crate) fn follow<'a>(
        &self,
        _node: &std::sync::Arc<Node>,
        _pod: &Pod,
        _runs: impl Iterator<Item = &'a ContainerStatus>,
        _address: Option<&str>,
    ) {
        let _ = self.seats.borrow().len();
    }

    pub(crate) async fn settle(&self, _id: &str) {}

    pub(crate) fn forget(&self, _uid: &str) {}
}
