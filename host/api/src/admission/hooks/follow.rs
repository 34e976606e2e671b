//! The loop that keeps what is in force level with the store.
//!
//! Level-triggered: each pass looks at every object of the six kinds as the caches have it, and compiles only
//! what changed. It also writes the status of validating policies, as the original's controller does.

use std::collections::HashMap;
use std::sync::Arc;

use capstan_kinds::admission::{Binding, MutatingPolicy, ValidatingPolicy, Webhook};
use capstan_kinds::resource::{Resource, find};
use capstan_store::Revision;
use futures::future::select_all;

use super::{Bound, Hooks, status};
use crate::registry::{Cursor, Entry};
use crate::server::Server;

/// The six kinds, in the order in which a pass reads them.
const KINDS: [&str; 6] = [
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "mutatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicybindings",
];

#[derive(Clone)]
enum Compiled {
    Webhooks(Vec<Arc<Webhook>>),
    Validating(Arc<ValidatingPolicy>),
    Mutating(Arc<MutatingPolicy>),
    Binding(Arc<Binding>),
}

/// What a pass remembers: compiled objects by kind and name.
#[derive(Default)]
struct Known(HashMap<(usize, Arc<str>), (Revision, Compiled)>);

/// Puts in force what there is.
pub(crate) fn load(server: &Server) {
    let mut known = Known::default();
    let kinds = kinds();
    let (hooks, _, _) = pass(server, &kinds, &mut known);
    server.admission.put_in_force(hooks);
}

/// Follows the six kinds for ever.
pub(crate) async fn run(server: Arc<Server>) {
    let mut known = Known::default();
    let kinds = kinds();
    loop {
        let (hooks, mut cursors, policies) = pass(&server, &kinds, &mut known);
        server.admission.put_in_force(hooks);
        for policy in policies {
            status::bring_up_to_date(&server, &policy).await;
        }
        let changes: Vec<_> = cursors
            .iter_mut()
            .map(|cursor| Box::pin(cursor.changed()))
            .collect();
        if changes.is_empty() {
            return;
        }
        select_all(changes).await;
    }
}

fn kinds() -> Vec<Arc<Resource>> {
    let kind = |plural: &&str| find("admissionregistration.k8s.io", "v1", plural);
    KINDS.iter().filter_map(kind).collect()
}

fn compile(kind: usize, entry: &Entry) -> Compiled {
    let object = entry.decode();
    match kind {
        0 | 1 => Compiled::Webhooks(Webhook::all(&object)),
        2 => Compiled::Validating(ValidatingPolicy::read(&object)),
        3 => Compiled::Mutating(MutatingPolicy::read(&object)),
        _ => Compiled::Binding(Arc::new(Binding::read(&object))),
    }
}

/// What is in force now, cursors that wait for more, and the validating policies as they are stored.
fn pass(
    server: &Server,
    kinds: &[Arc<Resource>],
    known: &mut Known,
) -> (Hooks, Vec<Cursor>, Vec<Arc<Entry>>) {
    let mut hooks = Hooks::default();
    let mut cursors = Vec::with_capacity(kinds.len());
    let mut stored = Vec::new();
    let mut policies: Vec<Arc<ValidatingPolicy>> = Vec::new();
    let mut mutations: Vec<Arc<MutatingPolicy>> = Vec::new();
    let mut bindings: [Vec<Arc<Binding>>; 2] = Default::default();
    for (kind, resource) in kinds.iter().enumerate() {
        let (_, objects, cursor) = server.registry.cache(resource).list_and_cursor("");
        cursors.push(cursor);
        known
            .0
            .retain(|(of, name), _| *of != kind || objects.iter().any(|(key, _)| key == name));
        for (name, entry) in objects {
            let place = (kind, name);
            let compiled = match known.0.get(&place) {
                Some((revision, compiled)) if *revision == entry.revision => compiled.clone(),
                _ => {
                    let compiled = compile(kind, &entry);
                    known.0.insert(place, (entry.revision, compiled.clone()));
                    compiled
                }
            };
            match compiled {
                Compiled::Webhooks(all) if kind == 0 => hooks.mutating.extend(all),
                Compiled::Webhooks(all) => hooks.validating.extend(all),
                Compiled::Validating(policy) => {
                    policies.push(policy);
                    stored.push(entry);
                }
                Compiled::Mutating(policy) => mutations.push(policy),
                Compiled::Binding(binding) => bindings[usize::from(kind == 5)].push(binding),
            }
        }
    }
    let [of_validating, of_mutating] = bindings;
    hooks.policies = bound(policies, &of_validating, |policy| &policy.name);
    hooks.mutations = bound(mutations, &of_mutating, |policy| &policy.name);
    (hooks, cursors, stored)
}

/// Those that have a binding.
fn bound<P>(policies: Vec<Arc<P>>, bindings: &[Arc<Binding>], name: impl Fn(&P) -> &str) -> Vec<Bound<P>> {
    let with = |policy: Arc<P>| {
        let own = bindings
            .iter()
            .filter(|binding| *binding.policy == *name(&policy));
        Bound {
            bindings: own.cloned().collect(),
            policy,
        }
    };
    let all = policies.into_iter().map(with);
    all.filter(|one| !one.bindings.is_empty()).collect()
}
