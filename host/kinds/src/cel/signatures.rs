//! What functions and members give, by their types.
//! Invariants: only what is sure is said; a function that is not here is unknown to expressions.

use super::functions;
use super::types::Type;

pub(super) const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
const PATH_CHECK: &str = "kubernetes.authorization.PathCheck";
const GROUP_CHECK: &str = "kubernetes.authorization.GroupCheck";
pub(super) const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
const DECISION: &str = "kubernetes.authorization.Decision";

pub(super) fn member_of_message<'a>(name: &str, field: &str) -> Option<Type<'a>> {
    match (name, field) {
        ("JSONPatch", "op" | "path" | "from") => Some(Type::Plain("string")),
        ("JSONPatch", "value") => Some(Type::Dyn),
        ("JSONPatch", _) => None,
        _ => Some(Type::Dyn),
    }
}

/// What a check of access gives.
pub(super) fn access_result<'a>(receiver: &str, name: &str) -> Option<Type<'a>> {
    Some(Type::Plain(match (receiver, name) {
        (AUTHORIZER, "path") => PATH_CHECK,
        (AUTHORIZER, "group") => GROUP_CHECK,
        (AUTHORIZER, "serviceAccount") => AUTHORIZER,
        (GROUP_CHECK, "resource") => RESOURCE_CHECK,
        (RESOURCE_CHECK, "subresource" | "namespace" | "name" | "fieldSelector" | "labelSelector") => {
            RESOURCE_CHECK
        }
        (RESOURCE_CHECK | PATH_CHECK, "check") => DECISION,
        (DECISION, "allowed" | "errored") => "bool",
        (DECISION, "reason" | "error") => "string",
        _ => return None,
    }))
}

/// What a function gives; none where there is no such function.
pub(super) fn result_of<'a>(name: &str, receiver: Option<&Type<'a>>, args: &[Type<'a>]) -> Option<Type<'a>> {
    let list = |of: &'static str| Type::List(Type::Plain(of).into());
    let first = || args.first().cloned().unwrap_or(Type::Dyn);
    let items = || match receiver {
        Some(Type::List(items)) => (**items).clone(),
        _ => Type::Dyn,
    };
    Some(match (name, receiver.is_some()) {
        ("size" | "int", _) => Type::Plain("int"),
        ("uint" | "double" | "string" | "bool" | "bytes" | "type", false) => {
            Type::Plain(functions::type_named(name).unwrap_or("dyn"))
        }
        ("timestamp", false) => Type::Plain("google.protobuf.Timestamp"),
        ("duration", false) => Type::Plain("google.protobuf.Duration"),
        ("dyn", false) => Type::Dyn,
        ("quantity", false) => Type::Plain("kubernetes.Quantity"),
        ("semver", false) => Type::Plain("kubernetes.Semver"),
        ("major" | "minor" | "patch", true) => Type::Plain("int"),
        ("ip", _) => Type::Plain("net.IP"),
        ("cidr", false) => Type::Plain("net.CIDR"),
        ("url", false) => Type::Plain("kubernetes.URL"),
        ("optional.none", _) => Type::Optional(Type::Dyn.into()),
        ("optional.of" | "optional.ofNonZeroValue", _) => Type::Optional(first().into()),
        ("format.named", _) => Type::Optional(Type::Dyn.into()),
        ("matches", _)
        | (
            "contains" | "startsWith" | "endsWith" | "isSorted" | "hasValue" | "isLessThan" | "isGreaterThan",
            true,
        )
        | ("isInteger" | "containsIP" | "containsCIDR" | "isUnspecified" | "isLoopback", true)
        | ("isLinkLocalMulticast" | "isLinkLocalUnicast" | "isGlobalUnicast", true)
        | ("isQuantity" | "isIP" | "isCIDR" | "isURL" | "ip.isCanonical" | "isSemver", false)
        | ("sets.contains" | "sets.intersects" | "sets.equivalent", false) => Type::Plain("bool"),
        (
            "lowerAscii" | "upperAscii" | "trim" | "charAt" | "replace" | "substring" | "join" | "format"
            | "find",
            true,
        )
        | ("getScheme" | "getHost" | "getHostname" | "getPort" | "getEscapedPath", true) => {
            Type::Plain("string")
        }
        ("split" | "findAll", true) => list("string"),
        (
            "indexOf" | "lastIndexOf" | "compareTo" | "sign" | "asInteger" | "family" | "prefixLength",
            true,
        )
        | (
            "getFullYear" | "getMonth" | "getDate" | "getDayOfMonth" | "getDayOfWeek" | "getDayOfYear",
            true,
        )
        | ("getHours" | "getMinutes" | "getSeconds" | "getMilliseconds", true) => Type::Plain("int"),
        ("asApproximateFloat", true) => Type::Plain("double"),
        ("sum" | "min" | "max", true) => items(),
        ("distinct" | "slice" | "sort", true) => Type::List(items().into()),
        ("value" | "orValue", true) => match receiver {
            Some(Type::Optional(inner)) => (**inner).clone(),
            _ => Type::Dyn,
        },
        ("jsonpatch.escapeKey", false) => Type::Plain("string"),
        ("add" | "sub", true) => Type::Plain("kubernetes.Quantity"),
        ("masked", true) => Type::Plain("net.CIDR"),
        ("or" | "reverse" | "flatten" | "getQuery" | "validate", true) => Type::Dyn,
        (name, false) if name.starts_with("format.") => Type::Dyn,
        _ => return None,
    })
}
