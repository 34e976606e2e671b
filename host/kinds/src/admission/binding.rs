//! A binding of a policy: where it is in force, with which parameters, and what its refusals lead to.

use serde_json::Value;

use super::rule::MatchResources;
use crate::selector::LabelSelector;

/// See the module; of validating and mutating policies alike.
#[derive(Debug)]
pub struct Binding {
    /// Its own name.
    pub name: Box<str>,
    /// Of the policy.
    pub policy: Box<str>,
    /// Where it is in force; none for everywhere.
    pub resources: Option<MatchResources>,
    /// Where its parameters are.
    pub params: Option<ParamRef>,
    /// `Deny`, `Warn`, `Audit`, in the order given.
    pub actions: Box<[Box<str>]>,
}

/// Which parameters a binding means.
#[derive(Debug)]
pub struct ParamRef {
    /// Empty where they are selected.
    pub name: Box<str>,
    /// Empty for the request's own.
    pub namespace: Box<str>,
    /// Those that it selects.
    pub selector: Option<LabelSelector>,
    /// Whether it is a refusal that there are none.
    pub must_exist: bool,
}

impl Binding {
    /// Reads it.
    pub fn read(text: &Value) -> Self {
        let word = |value: &Value| value.as_str().unwrap_or_default().into();
        let spec = &text["spec"];
        let params = &spec["paramRef"];
        let actions = spec["validationActions"].as_array().into_iter().flatten();
        Self {
            name: word(&text["metadata"]["name"]),
            policy: word(&spec["policyName"]),
            resources: spec["matchResources"]
                .is_object()
                .then(|| MatchResources::read(&spec["matchResources"])),
            params: params.is_object().then(|| ParamRef {
                name: word(&params["name"]),
                namespace: word(&params["namespace"]),
                selector: params["selector"].is_object().then(|| {
                    LabelSelector::from_value(&params["selector"])
                        .unwrap_or_else(|_| LabelSelector::nothing())
                }),
                must_exist: params["parameterNotFoundAction"] == "Deny",
            }),
            actions: actions.map(word).collect(),
        }
    }
}
