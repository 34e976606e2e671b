//! Components that mean harm, and what each of their calls is to end in. Shared by the test and the bench.
//!
//! Each is a world's small module with a body of its own. What is wrong at load alone is in `AT_LOAD`.

use capstan_plugin::Host;
use capstan_points::sidecar::{Line, Stream, StreamContext};
use capstan_points::{Fault, FaultKind, remedy::Case};
use serde_json::{Value, json};

use crate::review::review;
use crate::wrap;

/// A component that is loaded, and harms by being called.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    world: World,
    /// Definitions of its own, before the body's function.
    own: &'static str,
    body: &'static str,
    pub(crate) ends_in: FaultKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum World {
    Admission,
    Remedy,
    Logs,
}

const fn attack(
    name: &'static str,
    world: World,
    own: &'static str,
    body: &'static str,
    ends_in: FaultKind,
) -> Attack {
    Attack {
        name,
        world,
        own,
        body,
        ends_in,
    }
}

const GUEST: &str = r#"
;;wit export capstan:plugin/guest@0.1.0;
(func (export "capstan:plugin/guest@0.1.0#configure") (param i32 i32) (result i32) (i32.const 64))
"#;

const ADMISSION: &str = r#"
;;wit import capstan:admission/documents@0.1.0;
;;wit export capstan:admission/validate@0.1.0;
(import "capstan:admission/documents@0.1.0" "[method]document.json" (func $json (param i32 i32 i32 i32)))
(import "capstan:admission/documents@0.1.0" "[resource-drop]document" (func $drop (param i32)))
(func (export "capstan:admission/validate@0.1.0#validate") (param $call i32) (result i32)
  BODY
  (if (i32.load8_u offset=104 (local.get $call)) (then (call $drop (i32.load offset=108 (local.get $call)))))
  (if (i32.load8_u offset=112 (local.get $call)) (then (call $drop (i32.load offset=116 (local.get $call)))))
  (i32.const 64))
"#;

const REMEDY: &str = r#"
;;wit export capstan:remedy/decide@0.1.0;
(func (export "capstan:remedy/decide@0.1.0#decide")
  (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64) (result i32)
  BODY
  (i32.const 64))
"#;

const LOGS: &str = r#"
;;wit export capstan:sidecar/logs@0.1.0;
(func (export "capstan:sidecar/logs@0.1.0#open") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 64))
(func (export "capstan:sidecar/logs@0.1.0#on-lines") (param $lines i32) (param $count i32) (result i32)
  BODY
  (i32.const 64))
(func (export "capstan:sidecar/logs@0.1.0#flush") (result i32) (i32.const 64))
"#;

/// An `ok` at 128 with a list of `COUNT` entries at 65536, each whose text is the megabyte from 65536 on.
const ALIASES: &str = r#"
(drop (memory.grow (i32.const 40)))
(i32.store (i32.const 128) (i32.const 0))
(i32.store (i32.const 132) (i32.const 65536))
(i32.store (i32.const 136) (i32.const 4000))
(loop $fill
  (i32.store offset=12 (i32.add (i32.const 65536) (i32.mul (local.get $n) (i32.const 24))) (i32.const 65536))
  (i32.store offset=16 (i32.add (i32.const 65536) (i32.mul (local.get $n) (i32.const 24))) (i32.const 1048576))
  (i32.store8 offset=8 (i32.add (i32.const 65536) (i32.mul (local.get $n) (i32.const 24))) (i32.const 0))
  (br_if $fill (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 4000))))
(return (i32.const 128))
"#;

/// What is loaded without objection and then called.
pub(crate) const ATTACKS: [Attack; 14] = [
    attack(
        "endless loop",
        World::Remedy,
        "",
        "(loop $more (br $more))",
        FaultKind::Deadline,
    ),
    attack(
        "endless recursion",
        World::Remedy,
        "(func $deep (param i32) (result i32) (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))",
        "(drop (call $deep (i32.const 0)))",
        FaultKind::Trap,
    ),
    attack(
        "memory without end",
        World::Remedy,
        "",
        "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)",
        FaultKind::Memory,
    ),
    attack(
        "a table without end",
        World::Remedy,
        "(table $t 1 funcref)",
        "(loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) (unreachable)",
        FaultKind::Trap,
    ),
    attack(
        "texts of four gigabytes",
        World::Logs,
        "",
        ALIASES,
        FaultKind::Garbage,
    ),
    attack(
        "a list beyond its memory",
        World::Remedy,
        "(data (i32.const 128) \"\\00\\00\\00\\00\\f0\\ff\\ff\\7f\\ff\\ff\\ff\\0f\")",
        "(return (i32.const 128))",
        FaultKind::Garbage,
    ),
    attack(
        "an answer beyond its memory",
        World::Remedy,
        "",
        "(return (i32.const 0x7ffffff0))",
        FaultKind::Garbage,
    ),
    attack(
        "a text that is none",
        World::Remedy,
        "(data (i32.const 128) \"\\00\\00\\00\\00\\a0\\00\\00\\00\\01\\00\\00\\00\") \
         (data (i32.const 184) \"\\00\\04\\00\\00\\04\\00\\00\\00\") (data (i32.const 1024) \"\\ff\\fe\\80\\c0\")",
        "(return (i32.const 128))",
        FaultKind::Garbage,
    ),
    attack("a trap", World::Remedy, "", "(unreachable)", FaultKind::Trap),
    attack(
        "a document that was never lent",
        World::Admission,
        "",
        "(call $json (i32.const 7777) (i32.const 1024) (i32.const 0) (i32.const 160))",
        FaultKind::Trap,
    ),
    attack(
        "a document given back twice",
        World::Admission,
        "",
        "(call $drop (i32.load offset=108 (local.get $call)))",
        FaultKind::Trap,
    ),
    attack(
        "a document that is kept",
        World::Admission,
        "",
        "(return (i32.const 64))",
        FaultKind::Garbage,
    ),
    attack(
        "a flood of reads of a document",
        World::Admission,
        "",
        "(loop $more (call $reset) \
         (call $json (i32.load offset=108 (local.get $call)) (i32.const 1024) (i32.const 0) (i32.const 160)) (br $more))",
        FaultKind::Deadline,
    ),
    attack(
        "a flood of lines in the host's log, and of random numbers",
        World::Remedy,
        ";;wit import capstan:plugin/log@0.1.0;\n;;wit import capstan:plugin/random@0.1.0;\n\
         (import \"capstan:plugin/log@0.1.0\" \"write\" (func $log (param i32 i32 i32)))\n\
         (import \"capstan:plugin/random@0.1.0\" \"next\" (func $random (result i64)))\n",
        "(loop $more (call $log (i32.const 0) (i32.const 1024) (i32.const 60000)) (drop (call $random)) (br $more))",
        FaultKind::Deadline,
    ),
];

/// What is refused before it is ever called: name, world, definitions, and part of what is said.
#[allow(dead_code, reason = "the bench measures calls alone")]
pub(crate) const AT_LOAD: [(&str, &str, &str); 6] = [
    (
        "no end at instantiation",
        "(func $forever (loop $more (br $more))) (start $forever)",
        "deadline",
    ),
    (
        "a trap at instantiation",
        "(func $trap (unreachable)) (start $trap)",
        "unreachable",
    ),
    (
        "more functions in a table than there may be",
        "(table 30000 funcref)",
        "table",
    ),
    (
        "an import that was not granted",
        ";;wit import capstan:plugin/clock@0.1.0;\n(import \"capstan:plugin/clock@0.1.0\" \"now-ms\" (func $now (result i64)))\n\
         (func (result i64) (call $now))",
        "capstan:plugin/clock",
    ),
    (
        "the node's files",
        ";;wit import capstan:plugin/node-files@0.1.0;\n\
         (import \"capstan:plugin/node-files@0.1.0\" \"read\" (func $read (param i32 i32 i32)))\n\
         (func (call $read (i32.const 0) (i32.const 0) (i32.const 0)))",
        "capstan:plugin/node-files",
    ),
    (
        "the cluster's objects",
        ";;wit import capstan:plugin/kube-read@0.1.0;\n\
         (import \"capstan:plugin/kube-read@0.1.0\" \"get\" (func $get (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))\n\
         (func)",
        "capstan:plugin/kube-read",
    ),
];

impl Attack {
    pub(crate) fn component(&self) -> Vec<u8> {
        let template = match self.world {
            World::Admission => ADMISSION,
            World::Remedy => REMEDY,
            World::Logs => LOGS,
        };
        let body = if self.body.contains("$n)") {
            format!("(local $n i32) {}", self.body)
        } else {
            self.body.to_owned()
        };
        component(&format!(
            "{}\n{GUEST}{}",
            self.own,
            template.replace("BODY", &body)
        ))
    }

    /// The Plugin's spec, its component bundled under its name.
    pub(crate) fn spec(&self) -> Value {
        let bind = match self.world {
            World::Admission => json!({"admission": {"rules": [every_request()]}}),
            World::Remedy => json!({"nodes": {}}),
            World::Logs => json!({"pods": {}}),
        };
        let granted = json!([{"name": "log"}, {"name": "random"}]);
        json!({"source": {"bundled": self.name}, "bind": bind, "capabilities": granted})
    }

    /// Calls the plugin of that name as the cluster would; what it answers is thrown away.
    pub(crate) async fn call(&self, host: &Host, plugin: &str) -> Result<(), Fault> {
        match self.world {
            World::Admission => {
                let row = host.admission_seats().borrow().clone();
                let seat = row
                    .iter()
                    .find(|seat| seat.plugin == plugin)
                    .expect("it is seated");
                seat.policy
                    .validate(review(json!({"spec": {}}), None))
                    .await
                    .map(drop)
            }
            World::Remedy => {
                let row = host.remedy_seats().borrow().clone();
                let seat = row
                    .iter()
                    .find(|seat| seat.plugin == plugin)
                    .expect("it is seated");
                seat.policy.decide(&Case::default()).map(drop)
            }
            World::Logs => {
                let row = host.sidecar_seats().borrow().clone();
                let seat = row
                    .iter()
                    .find(|seat| seat.plugin == plugin)
                    .expect("it is seated");
                let mut stream = seat.policy.open(&StreamContext::default())?;
                let line = Line {
                    time_ms: 1,
                    stream: Stream::Stdout,
                    text: "a line".into(),
                };
                stream.on_lines(vec![line]).map(drop)
            }
        }
    }
}

/// The component of an attack at load.
#[allow(dead_code, reason = "as above")]
pub(crate) fn at_load(own: &str) -> Vec<u8> {
    component(&format!("{own}\n{GUEST}{}", REMEDY.replace("BODY", "")))
}

/// So many functions of so many steps: megabytes of code that take seconds to compile.
pub(crate) fn compile_bomb(functions: usize, steps: usize) -> Vec<u8> {
    let step = "(local.set 0 (i32.xor (i32.mul (local.get 0) (i32.const 31)) (i32.load (local.get 0))))";
    let function = format!(
        "(func (param i32) (result i32) {} (local.get 0))\n",
        step.repeat(steps)
    );
    component(&format!(
        "{}{GUEST}{}",
        function.repeat(functions),
        REMEDY.replace("BODY", "")
    ))
}

fn component(module: &str) -> Vec<u8> {
    let prelude = wrap::prelude();
    wrap::component(&prelude, module)
}

pub(crate) fn every_request() -> Value {
    json!({"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]})
}
