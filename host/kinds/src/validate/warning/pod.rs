//! Warnings about pods and about the templates of pods.
//! Invariants: the order is the original's: labels, annotations, volumes, containers, ports, the rest.

use std::collections::{HashMap, HashSet};

use super::{DEPRECATED_SOURCES, Told};
use crate::validate::at::At;

const DEPRECATED_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";
const DEPRECATED_LABELS: [(&str, &str); 8] = [
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        "use \"node-role.kubernetes.io/control-plane\" instead",
    ),
];

impl Told {
    /// A pod, or a template of pods.
    pub(super) fn pod(&mut self, object: &At, template: bool) {
        let spec = object.at("spec");
        self.placement(&spec);
        for (key, text) in DEPRECATED_ANNOTATIONS {
            self.annotation(object, key, text);
        }
        for volume in spec.each("volumes") {
            self.volume_source(&volume);
        }
        self.twice(&spec, "hostAliases", "ip");
        self.twice(&spec, "imagePullSecrets", "name");
        for secret in spec.each("imagePullSecrets") {
            if secret.text("name").is_empty() {
                self.say(&secret, "name", "invalid empty name \"\"");
            }
        }
        self.fractions(&spec, "overhead");
        if !spec.has("securityContext.seccompProfile") {
            let why = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
            self.annotation(object, SECCOMP_POD, why);
        }
        for container in containers(&spec) {
            self.container(object, &container, template);
        }
        self.ports(&spec);
        if spec.number("terminationGracePeriodSeconds") < 0 {
            let why = "must be >= 0; negative values are invalid and will be treated as 1";
            self.say(&spec, "terminationGracePeriodSeconds", why);
        }
        self.pod_affinity(&spec);
        for server in spec.each("dnsConfig.nameservers") {
            self.address(&server, "");
        }
        for alias in spec.each("hostAliases") {
            self.address(&alias, "ip");
        }
    }

    fn placement(&mut self, spec: &At) {
        for (key, label) in spec.keyed("nodeSelector") {
            if let Some(text) = deprecated(key) {
                self.say(&label, "", text);
            }
        }
        let node = spec.at("affinity.nodeAffinity");
        for term in node.each("requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms") {
            self.node_term(&term, false);
        }
        for term in node.each("preferredDuringSchedulingIgnoredDuringExecution") {
            self.node_term(&term.at("preference"), true);
        }
        for constraint in spec.each("topologySpreadConstraints") {
            let key = constraint.text("topologyKey");
            if let Some(text) = deprecated(key) {
                self.say(&constraint, "topologyKey", format!("{key} is {text}"));
            }
            if !constraint.has("labelSelector") {
                self.say(&constraint, "labelSelector", NO_SELECTOR);
            }
        }
    }

    pub(super) fn node_term(&mut self, term: &At, values: bool) {
        for expression in term.each("matchExpressions") {
            let key = expression.text("key");
            if let Some(text) = deprecated(key) {
                self.say(&expression, "key", format!("{key} is {text}"));
            }
            if values {
                for value in expression.each("values") {
                    for why in crate::name::label_value(value.text("")) {
                        self.say(&value, "", format!("{} is invalid, {why}", value.text("")));
                    }
                }
            }
        }
    }

    fn pod_affinity(&mut self, spec: &At) {
        for kind in ["affinity.podAffinity", "affinity.podAntiAffinity"] {
            let affinity = spec.at(kind);
            for term in affinity.each("requiredDuringSchedulingIgnoredDuringExecution") {
                if !term.has("labelSelector") {
                    self.say(&term, "labelSelector", NO_SELECTOR);
                }
            }
            for term in affinity.each("preferredDuringSchedulingIgnoredDuringExecution") {
                if !term.has("podAffinityTerm.labelSelector") {
                    self.say(&term, "podAffinityTerm.labelSelector", NO_SELECTOR);
                }
            }
        }
    }

    fn volume_source(&mut self, volume: &At) {
        for (field, told, text) in DEPRECATED_SOURCES {
            if volume.has(field) {
                self.say(volume, told, text);
            }
        }
        if volume.has("gitRepo") {
            let text = "deprecated in v1.11, and disabled by default in v1.33+";
            self.say(volume, "gitRepo", text);
        }
        if let Some(claim) = volume.some("ephemeral.volumeClaimTemplate.spec") {
            self.claim(&claim);
        }
        for (source, kind, name) in [
            ("configMap", "ConfigMap", "configMap.name"),
            ("secret", "Secret", "secret.secretName"),
            ("downwardAPI", "DownwardAPI", ""),
        ] {
            let what = if name.is_empty() {
                kind.to_string()
            } else {
                format!("{kind} {:?}", volume.text(name))
            };
            let mut paths = Vec::new();
            for item in volume.each(&format!("{source}.items")) {
                self.overlap(volume, &what, &mut paths, item.text("path"), String::new());
            }
        }
        self.projection(volume);
    }

    /// Files of a projected volume that hide each other.
    fn projection(&mut self, volume: &At) {
        let mut paths = Vec::new();
        for source in volume.each("projected.sources") {
            if source.count("") == 0 {
                let name = volume.text("name");
                self.0
                    .push(format!("volume {name:?} (Projected) has no sources provided"));
                continue;
            }
            let mut files: Vec<(&str, String)> = Vec::new();
            for (kind, told) in [
                ("configMap", "ConfigMap"),
                ("secret", "Secret"),
                ("downwardAPI", "DownwardAPI"),
            ] {
                let told = match kind {
                    "downwardAPI" => told.to_string(),
                    _ => format!("{told} {:?}", source.text(&format!("{kind}.name"))),
                };
                let items = source.each(&format!("{kind}.items"));
                files.extend(items.map(|item| (item.text("path"), told.clone())));
            }
            if source.has("serviceAccountToken") {
                let path = source.text("serviceAccountToken.path");
                files.push((path, "ServiceAccountToken".to_string()));
            }
            if let Some(bundle) = source.some("clusterTrustBundle") {
                let name = if bundle.has("name") {
                    bundle.text("name")
                } else {
                    bundle.text("signerName")
                };
                files.push((bundle.text("path"), format!("ClusterTrustBundle {name:?}")));
            }
            // Those of one source are compared with those before it and with one another.
            for (path, told) in files {
                self.overlap(volume, "Projected", &mut paths, path, told);
            }
        }
    }

    fn overlap(
        &mut self,
        volume: &At,
        what: &str,
        known: &mut Vec<(String, String)>,
        path: &str,
        source: String,
    ) {
        let path = path.trim_end_matches('/').to_string();
        let shown = |(path, source): &(String, String)| match source.as_str() {
            "" => format!("{path:?}"),
            source => format!("{path:?} ({source})"),
        };
        let file = (path, source);
        let inside = |one: &str, other: &str| format!("{one}/").starts_with(&format!("{other}/"));
        for other in known
            .iter()
            .filter(|other| !other.0.is_empty() && !file.0.is_empty())
        {
            if inside(&other.0, &file.0) || inside(&file.0, &other.0) {
                let name = volume.text("name");
                let (file, other) = (shown(&file), shown(other));
                self.0.push(format!(
                    "volume {name:?} ({what}): overlapping paths: {file} with {other}"
                ));
            }
        }
        known.push(file);
    }

    fn container(&mut self, object: &At, container: &At, template: bool) {
        let name = container.text("name");
        if !container.has("securityContext.seccompProfile") {
            let why = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
            self.annotation(object, &format!("{SECCOMP_CONTAINER}{name}"), why);
        }
        if template
            && !container.has("securityContext.appArmorProfile")
            && !object.has("spec.securityContext.appArmorProfile")
        {
            let key = format!("container.apparmor.security.beta.kubernetes.io/{name}");
            let why = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
            self.annotation(object, &key, why);
        }
        self.fractions(container, "resources.limits");
        self.fractions(container, "resources.requests");
        let mut names = HashSet::new();
        for variable in container.each("env") {
            let name = variable.text("name");
            if names.insert(name) {
                continue;
            }
            let (value, reference) = (variable.text("value"), format!("$({name})"));
            if variable.has("valueFrom") || value == reference || !value.contains(&reference) {
                let why =
                    format!("hides previous definition of {name:?}, which may be dropped when using apply");
                self.say(&variable, "", why);
            }
        }
    }

    /// Amounts of bytes with a fraction.
    fn fractions(&mut self, at: &At, list: &str) {
        for name in ["memory", "ephemeral-storage"] {
            let amount = at.map(list).and_then(|map| map.get(name)?.as_str());
            let fraction = amount
                .and_then(|text| text.parse::<crate::quantity::Quantity>().ok())
                .is_some_and(|amount| !amount.is_whole());
            if fraction {
                let why = format!(
                    "fractional byte value {:?} is invalid, must be an integer",
                    amount.unwrap_or_default()
                );
                self.say(at, &format!("{list}[{name}]"), why);
            }
        }
    }

    fn twice(&mut self, at: &At, list: &str, field: &str) {
        let mut seen = HashSet::new();
        for item in at.each(list) {
            if !seen.insert(item.text(field)) {
                self.say(&item, field, format!("duplicate {field} {:?}", item.text(field)));
            }
        }
    }

    fn ports(&mut self, spec: &At) {
        let mut seen: HashMap<(i64, &str), Vec<At>> = HashMap::new();
        for port in containers(spec).flat_map(|container| container.each("ports")) {
            let others = seen
                .entry((port.number("containerPort"), port.text("protocol")))
                .or_default();
            for other in others.iter() {
                let (host, other_host) = (port.number("hostPort"), other.number("hostPort"));
                let (ip, other_ip) = (port.text("hostIP"), other.text("hostIP"));
                let what = if ip == other_ip && host == other_host {
                    "duplicate"
                } else if host == 0 || other_host == 0 {
                    "overlapping"
                } else if host == other_host && ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                self.0.push(format!(
                    "{}: {what} port definition with {}",
                    port.path(""),
                    other.path("")
                ));
            }
            others.push(port);
        }
        let mut names: HashMap<&str, String> = HashMap::new();
        for port in containers(spec).flat_map(|container| container.each("ports")) {
            let name = port.text("name");
            if name.is_empty() {
                continue;
            }
            match names.get(name) {
                Some(other) => {
                    let why = format!(
                        "duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}"
                    );
                    self.say(&port, "", why);
                }
                None => {
                    names.insert(name, port.path(""));
                }
            }
        }
    }
}

pub(super) fn deprecated(label: &str) -> Option<&'static str> {
    DEPRECATED_LABELS
        .iter()
        .find(|(key, _)| *key == label)
        .map(|(_, text)| *text)
}

fn containers<'a>(spec: &At<'a>) -> impl Iterator<Item = At<'a>> + use<'a> {
    let lists = ["initContainers", "containers", "ephemeralContainers"].map(|list| spec.each(list));
    lists.into_iter().flatten()
}
