//! Services of a cluster without root: cluster IPs, node ports, DNS, and what they say when they cannot.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use capstan_tests::{Cluster, get, until};

const HELLO: &str = include_str!("../fixtures/hello.yaml");

/// DNS: response codes and the question for addresses.
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;
const TYPE_A: u16 = 1;

fn hello() -> Cluster {
    let cluster = Cluster::start();
    cluster.apply(HELLO).clean();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .clean();
    cluster
}

fn cluster_ip(cluster: &Cluster, service: &str) -> String {
    let service = cluster.get(&["service", service]).unwrap();
    service["spec"]["clusterIP"]
        .as_str()
        .expect("a cluster IP")
        .to_owned()
}

/// The addresses of the pods that this selects.
fn pod_ips(cluster: &Cluster, selector: &str) -> Vec<Ipv4Addr> {
    let pods = cluster.get(&["pods", "-l", selector]).unwrap();
    let pods = pods["items"].as_array().expect("a list");
    let mut ips: Vec<_> = pods
        .iter()
        .filter_map(|pod| pod["status"]["podIP"].as_str()?.parse().ok())
        .collect();
    ips.sort();
    ips
}

/// Asks the cluster's DNS server over UDP: the response code and the addresses.
fn lookup(cluster: &Cluster, name: &str) -> Result<(u8, Vec<Ipv4Addr>), String> {
    let first: Ipv4Addr = cluster_ip(cluster, "kubernetes")
        .parse()
        .expect("an IPv4 address");
    let server = Ipv4Addr::from(u32::from(first) + 9);
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).expect("a short label"));
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, TYPE_A as u8, 0, 1]);
    let mut last = String::new();
    for port in [53, 10_053] {
        match exchange(server, port, &query) {
            Ok(answer) => {
                return read_answer(&answer, query.len()).ok_or(format!("makes no sense: {answer:?}"));
            }
            Err(error) => last = format!("{server}:{port}: {error}"),
        }
    }
    Err(last)
}

fn exchange(server: Ipv4Addr, port: u16, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect((server, port))?;
    socket.send(query)?;
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

/// Reads header and answers; `question_end` is where our own question ends, which is repeated.
fn read_answer(answer: &[u8], question_end: usize) -> Option<(u8, Vec<Ipv4Addr>)> {
    let count = u16::from_be_bytes([*answer.get(6)?, *answer.get(7)?]);
    if answer.get(..2)? != [0x12, 0x34] {
        return None;
    }
    let mut at = question_end;
    let mut addresses = Vec::new();
    for _ in 0..count {
        // A name: labels up to an empty one or a pointer.
        loop {
            match *answer.get(at)? {
                0 => break at += 1,
                length if length >= 0xc0 => break at += 2,
                length => at += 1 + usize::from(length),
            }
        }
        let head = answer.get(at..at + 10)?;
        let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
        let data = answer.get(at + 10..at + 10 + length)?;
        if u16::from_be_bytes([head[0], head[1]]) == TYPE_A {
            addresses.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?));
        }
        at += 10 + length;
    }
    addresses.sort();
    Some((answer.get(3)? & 0xf, addresses))
}

/// A node port that nobody on this machine uses now.
fn free_node_port() -> u16 {
    let ports = (30_000..32_768).cycle().skip(usize::from(fastrand::u16(..2768)));
    ports
        .take(2768)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free node port")
}

#[test]
fn a_service_takes_its_pods_in_turn_on_its_address_and_on_the_node() {
    let cluster = hello();
    let node_port = free_node_port();
    let outside = "
apiVersion: v1
kind: Service
metadata: { name: outside }
spec:
  type: NodePort
  selector: { app: hello }
  ports: [{ port: 8080, targetPort: http, nodePort: PORT }]
";
    cluster
        .apply(&outside.replace("PORT", &node_port.to_string()))
        .clean();
    for address in [
        format!("{}:8080", cluster_ip(&cluster, "hello")),
        format!("127.0.0.1:{node_port}"),
    ] {
        until("the service to answer", || get(&address, "/"));
        let mut turns: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..6 {
            let said = get(&address, "/").unwrap();
            *turns
                .entry(said.lines().next().unwrap_or_default().to_owned())
                .or_default() += 1;
        }
        assert_eq!(
            turns.values().copied().collect::<Vec<_>>(),
            [2, 2, 2],
            "{address}: {turns:?}"
        );
    }
    cluster.kubectl(&["delete", "service", "outside"]).clean();
    until("the node port to be closed", || {
        match TcpStream::connect(("127.0.0.1", node_port)) {
            Err(_) => Ok(()),
            Ok(_) => Err("still open".to_owned()),
        }
    });
}

#[test]
fn unready_pods_get_nothing_and_nobody_is_refused() {
    let cluster = Cluster::start();
    let pod = "
apiVersion: v1
kind: Pod
metadata: { name: NAME, labels: { app: mixed } }
spec:
  containers:
    - name: main
      image: capstan.dev/hello-http:1
      ports: [{ name: http, containerPort: 8080 }]
      env: [{ name: POD_NAME, valueFrom: { fieldRef: { fieldPath: metadata.name } } }]
      readinessProbe: { httpGet: { path: PATH, port: http }, periodSeconds: 1 }
---
";
    let with = |name: &str, path: &str| pod.replace("NAME", name).replace("PATH", path);
    let services = "
apiVersion: v1
kind: Service
metadata: { name: mixed }
spec: { selector: { app: mixed }, ports: [{ port: 8080, targetPort: http }] }
---
apiVersion: v1
kind: Service
metadata: { name: mixed-headless }
spec: { clusterIP: None, selector: { app: mixed }, ports: [{ port: 8080, targetPort: http }] }
---
apiVersion: v1
kind: Service
metadata: { name: nobody }
spec: { selector: { app: nobody }, ports: [{ port: 8080 }] }
";
    cluster
        .apply(&(with("good", "/healthz") + &with("unready", "/missing") + services))
        .clean();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "pod/good", "--timeout=60s"])
        .clean();
    until("both pods in the slice, one of them ready", || {
        let slices = cluster.get(&["endpointslices", "-l", "kubernetes.io/service-name=mixed"])?;
        let endpoints = slices["items"][0]["endpoints"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let ready = endpoints
            .iter()
            .filter(|one| one["conditions"]["ready"] == true)
            .count();
        if (endpoints.len(), ready) == (2, 1) {
            Ok(())
        } else {
            Err(slices.to_string())
        }
    });
    let address = format!("{}:8080", cluster_ip(&cluster, "mixed"));
    until("the service to answer", || get(&address, "/"));
    for _ in 0..4 {
        let said = get(&address, "/").unwrap();
        assert!(said.contains("good") && !said.contains("unready"), "{said}");
    }
    let good = cluster.get(&["pod", "good"]).unwrap()["status"]["podIP"]
        .as_str()
        .expect("an address")
        .parse()
        .unwrap();
    assert_eq!(
        lookup(&cluster, "mixed-headless.default.svc.cluster.local").unwrap(),
        (NO_ERROR, vec![good])
    );
    let refused = get(&format!("{}:8080", cluster_ip(&cluster, "nobody")), "/").unwrap_err();
    assert!(refused.contains("refused"), "{refused}");
}

#[test]
fn dns_knows_services_and_the_pods_of_headless_ones() {
    let cluster = hello();
    let ip: Ipv4Addr = cluster_ip(&cluster, "hello").parse().unwrap();
    assert_eq!(
        lookup(&cluster, "hello.default.svc.cluster.local").unwrap(),
        (NO_ERROR, vec![ip])
    );
    assert_eq!(
        lookup(&cluster, "HELLO.default.svc.cluster.local").unwrap(),
        (NO_ERROR, vec![ip])
    );
    assert_eq!(
        lookup(&cluster, "absent.default.svc.cluster.local").unwrap(),
        (NO_SUCH_NAME, vec![])
    );
    assert_eq!(
        lookup(&cluster, "hello.elsewhere.svc.cluster.local").unwrap(),
        (NO_SUCH_NAME, vec![])
    );
    let headless = "
apiVersion: v1
kind: Service
metadata: { name: each }
spec: { clusterIP: None, selector: { app: hello }, ports: [{ port: 8080, targetPort: http }] }
";
    cluster.apply(headless).clean();
    let pods = pod_ips(&cluster, "app=hello");
    assert_eq!(pods.len(), 3);
    until("the headless service to name its pods", || {
        let seen = lookup(&cluster, "each.default.svc.cluster.local")?;
        if seen == (NO_ERROR, pods.clone()) {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
    cluster
        .kubectl(&["scale", "deployment/hello", "--replicas=1"])
        .clean();
    until("the headless service to forget those that are gone", || {
        let (_, seen) = lookup(&cluster, "each.default.svc.cluster.local")?;
        if seen.len() == 1 {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
}

/// A port below 1024 is opened where this user may, and where not the Service says what to do.
#[test]
fn a_low_port_works_or_says_why_not() {
    let cluster = hello();
    cluster
        .kubectl(&[
            "expose",
            "deployment/hello",
            "--name=low",
            "--port=80",
            "--target-port=8080",
        ])
        .clean();
    let address = format!("{}:80", cluster_ip(&cluster, "low"));
    if TcpListener::bind("127.0.0.1:1").is_ok() {
        until("the service to answer", || get(&address, "/"));
        return;
    }
    until("the warning", || {
        let said = cluster.kubectl(&["describe", "service", "low"]).clean();
        let whole = ["Warning", "PortNotPermitted", &address, "1024", "NodePort"]
            .iter()
            .all(|part| said.contains(part));
        if whole { Ok(()) } else { Err(said) }
    });
    assert!(get(&address, "/").is_err());
}
