//! The query of a list, a watch or a deletecollection: read and checked before anything else, in the
//! original's words. Pure.

use capstan_kinds::resource::Resource;
use capstan_kinds::status::Status;
use capstan_kinds::validate::{Cause, FieldError};
use capstan_store::Revision;

use crate::refusal::Refusal;
use crate::request::Query;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListOptions {
    /// `resourceVersion` as it stands.
    revision: String,
    exact: bool,
    /// `limit`; 0 is all.
    pub limit: usize,
    /// `continue`; empty where there is none.
    pub continue_token: String,
    /// `sendInitialEvents`; what a watch without a revision gets too.
    pub initial_events: bool,
    pub bookmarks: bool,
    /// `timeoutSeconds`; 0 where it is not said.
    pub timeout_seconds: u64,
}

impl ListOptions {
    pub(crate) fn read(query: &Query, watch: bool) -> Result<Self, Refusal> {
        let number = |name: &str| -> Result<i64, Refusal> {
            let Some(text) = query.get(name) else { return Ok(0) };
            text.parse().map_err(|_| {
                Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")).into()
            })
        };
        let text = |name: &str| query.get(name).unwrap_or_default().to_owned();
        let initial = query
            .get("sendInitialEvents")
            .map(|_| query.flag("sendInitialEvents"));
        let (revision, rule, continue_token) = (
            text("resourceVersion"),
            text("resourceVersionMatch"),
            text("continue"),
        );
        let mut errors = Vec::new();
        if watch {
            check_watch(&rule, &continue_token, initial, &mut errors);
        } else {
            check_list(&rule, &revision, &continue_token, initial, &mut errors);
        }
        if !errors.is_empty() {
            return Err(invalid_options("ListOptions", errors));
        }
        let unset = matches!(revision.as_str(), "" | "0");
        let limit = usize::try_from(number("limit")?).unwrap_or(0);
        Ok(Self {
            // The oldest way to say it: pages of the state at a revision.
            exact: rule == "Exact" || (rule.is_empty() && limit > 0 && !unset),
            limit,
            initial_events: watch && initial.unwrap_or(unset),
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout_seconds: u64::try_from(number("timeoutSeconds")?).unwrap_or(0),
            revision,
            continue_token,
        })
    }

    /// The revision of a list; none where it is unset.
    pub(crate) fn list_revision(&self) -> Result<Option<Revision>, Refusal> {
        match parse(&self.revision) {
            Ok(revision) => Ok(revision),
            Err(problem) => Err(Status::bad_request(format!("invalid resource version: {problem}")).into()),
        }
    }

    /// The revision of a watch; none where it is unset.
    pub(crate) fn watch_revision(&self) -> Result<Option<Revision>, Refusal> {
        revision(&self.revision)
    }

    /// Whether the state at just that revision is asked for.
    pub(crate) fn exact(&self) -> bool {
        self.exact
    }
}

/// The `resourceVersion` of a get or a watch; none where it is unset.
pub(crate) fn revision(text: &str) -> Result<Option<Revision>, Refusal> {
    // The original answers 500, as if it were its own mistake.
    parse(text).map_err(|problem| Status::bad_request(problem).into())
}

fn parse(text: &str) -> Result<Option<Revision>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let why = match text.parse::<u64>() {
        Ok(revision) => match Revision::try_from(revision) {
            Ok(revision) => return Ok(Some(revision)),
            Err(_) => "value out of range",
        },
        Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => "value out of range",
        Err(_) => "invalid syntax",
    };
    Err(format!(
        "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
    ))
}

const RULE: &str = "resourceVersionMatch";

fn check_list(
    rule: &str,
    revision: &str,
    continue_token: &str,
    initial: Option<bool>,
    errors: &mut Vec<FieldError>,
) {
    if !rule.is_empty() {
        if revision.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(RULE, why));
        }
        if !continue_token.is_empty() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(RULE, why));
        }
        if !matches!(rule, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported(
                RULE,
                rule,
                &["Exact", "NotOlderThan", ""],
            ));
        }
        if rule == "Exact" && revision == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(RULE, why));
        }
    }
    if initial.is_some() {
        let why = "sendInitialEvents is forbidden for list";
        errors.push(FieldError::forbidden("sendInitialEvents", why));
    }
}

fn check_watch(rule: &str, continue_token: &str, initial: Option<bool>, errors: &mut Vec<FieldError>) {
    if initial.is_some() && rule != "NotOlderThan" {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(RULE, why));
    }
    if rule.is_empty() {
        return;
    }
    if initial.is_none() {
        let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        errors.push(FieldError::forbidden(RULE, why));
    }
    if rule != "NotOlderThan" {
        errors.push(FieldError::not_supported(RULE, rule, &["NotOlderThan"]));
    }
    if !continue_token.is_empty() {
        let why = "resourceVersionMatch is forbidden when continue is provided";
        errors.push(FieldError::forbidden(RULE, why));
    }
}

/// 422 about the options of a request, such as `CreateOptions`.
pub(crate) fn invalid_options(kind: &str, errors: Vec<FieldError>) -> Refusal {
    let options = Resource {
        group: "meta.k8s.io".into(),
        kind: kind.into(),
        ..Resource::default()
    };
    Status::invalid(&options, "", errors).into()
}

/// The values of `dryRun`.
pub(crate) fn dry_run_values(query: &Query) -> Vec<String> {
    query
        .pairs()
        .filter(|(name, value)| *name == "dryRun" && !value.is_empty())
        .map(|(_, value)| value.to_owned())
        .collect()
}

/// What is wrong with the values of `dryRun`, if anything.
pub(crate) fn dry_run_error(values: &[String]) -> Option<FieldError> {
    if values.iter().all(|value| value == "All") {
        return None;
    }
    let shown = serde_json::json!(values);
    let message = format!("Unsupported value: {shown}: supported values: \"All\"");
    Some(FieldError::new("dryRun", Cause::NotSupported, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, watch: bool) -> Result<ListOptions, Refusal> {
        let uri: http::Uri = format!("/x?{query}").parse().unwrap();
        ListOptions::read(&Query::parse(&uri), watch)
    }

    #[test]
    fn problems_are_told_in_the_originals_words() {
        for (query, watch, code, message) in [
            (
                "resourceVersionMatch=Exact",
                false,
                422,
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
            (
                "resourceVersionMatch=Newest&resourceVersion=1",
                false,
                422,
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: \"Newest\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
            ),
            (
                "resourceVersionMatch=Exact&resourceVersion=0",
                false,
                422,
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
            (
                "sendInitialEvents=true",
                false,
                422,
                "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
            ),
            (
                "sendInitialEvents=true",
                true,
                422,
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ),
            (
                "resourceVersionMatch=NotOlderThan",
                true,
                422,
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ),
            (
                "limit=many",
                false,
                400,
                "strconv.ParseInt: parsing \"many\": invalid syntax",
            ),
        ] {
            let status = read(query, watch).unwrap_err();
            assert_eq!((status.code, status.message.as_str()), (code, message), "{query}");
        }
        let bad = read("resourceVersion=x", false).unwrap();
        assert_eq!(
            bad.list_revision().unwrap_err().message,
            "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax"
        );
        assert_eq!(bad.watch_revision().unwrap_err().code, 400);
    }

    #[test]
    fn what_is_left_out_means_what_it_always_did() {
        let options = |query: &str, watch: bool| read(query, watch).unwrap();
        assert!(options("", true).initial_events && options("resourceVersion=0", true).initial_events);
        assert!(!options("resourceVersion=5", true).initial_events && !options("", false).initial_events);
        let off = "sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
        assert!(!options(off, true).initial_events);
        assert!(options("resourceVersion=5&limit=1", false).exact());
        assert!(!options("resourceVersion=5", false).exact() && !options("limit=1", false).exact());
    }
}
