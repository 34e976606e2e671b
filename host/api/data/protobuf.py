#!/usr/bin/env python3
"""Derives protobuf.tsv, the table of Kubernetes' protobuf messages, from Kubernetes' own sources.

    python3 host/api/data/protobuf.py KUBERNETES/staging/src/k8s.io > host/api/data/protobuf.tsv

Not part of any build: run it by hand for a new version of Kubernetes. It reads of each package
`generated.proto` (numbers and types) and the Go structs (JSON names, which fields are pointers, which are
omitted when empty), and checks that both agree. `src/protobuf/table.rs` says what the lines mean.
"""
import glob
import os
import re
import sys

PACKAGES = """
admissionregistration/v1 apps/v1 authentication/v1 authorization/v1 autoscaling/v1
autoscaling/v2 batch/v1 certificates/v1 coordination/v1 core/v1 discovery/v1 events/v1 flowcontrol/v1
networking/v1 node/v1 policy/v1 rbac/v1 resource/v1 scheduling/v1 storage/v1
""".split()
FOLDERS = {package.replace("/", "."): f"api/{package}" for package in PACKAGES} | {
    "meta.v1": "apimachinery/pkg/apis/meta/v1",
    "apiextensions.v1": "apiextensions-apiserver/pkg/apis/apiextensions/v1",
    "apiregistration.v1": "kube-aggregator/pkg/apis/apiregistration/v1",
}
# Messages that are no objects in JSON: the codec knows them by name.
SPECIAL = {
    "meta.v1.Time": "T", "meta.v1.MicroTime": "M", "meta.v1.FieldsV1": "R",
    "resource.Quantity": "Q", "intstr.IntOrString": "N", "runtime.RawExtension": "R",
    "apiextensions.v1.JSON": "R",
}
SCALARS = {"string": "s", "bytes": "y", "bool": "b", "int32": "i", "int64": "l", "double": "d"}
# Never the body of a request or an answer.
UNUSED = {
    "core.v1.List", "meta.v1.List", "meta.v1.Duration", "meta.v1.Patch", "meta.v1.Timestamp", "meta.v1.TypeMeta",
}


def short(name, package):
    if "." not in name:
        return f"{package}.{name}"
    parts = name.strip(".").split(".")
    return ".".join(parts[-3:]) if re.fullmatch(r"v\d+\w*", parts[-2]) else ".".join(parts[-2:])


def protos(path, package):
    """Message name -> [(label, type, name, number)]"""
    messages, current = {}, None
    for line in open(path):
        line = line.strip()
        if line.startswith("//"):
            continue
        if m := re.match(r"message (\w+) \{", line):
            current = messages.setdefault(m[1], [])
        elif line == "}":
            current = None
        elif m := re.match(r"map<string, ([\w.]+)> (\w+) = (\d+);", line):
            current.append(("map", m[1], m[2], int(m[3])))
        elif m := re.match(r"(optional|repeated) ([\w.]+) (\w+) = (\d+)( \[packed=\w+\])?;", line):
            current.append((m[1], m[2], m[3], int(m[4])))
        elif current is not None and line:
            sys.exit(f"{path}: not understood: {line}")
    return messages


def structs(folder):
    """Struct name -> {number: (go type, JSON name, omitted when empty)}"""
    found = {}
    for path in glob.glob(f"{folder}/*.go"):
        if path.endswith(("_test.go", "generated.pb.go")):
            continue
        text = re.sub(r"/\*.*?\*/", "", open(path).read(), flags=re.S)
        for m in re.finditer(r"^type (\w+) struct \{\n(.*?)^\}", text, re.M | re.S):
            fields = found.setdefault(m[1], {})
            for line in m[2].splitlines():
                f = re.match(r"\s*(?:(\w+)\s+)?([\w.*\[\]]+)\s+`(.*)`", line)
                if not f:
                    continue
                json = re.search(r'json:"([^"]*)"', f[3])
                proto = re.search(r'protobuf:"\w+,(\d+),', f[3])
                if json and proto:
                    name, *options = json[1].split(",")
                    omits = "omitempty" in options or "omitzero" in options
                    inline = not name and ("inline" in options or f[1] is None)
                    found_name = "" if inline else name or f[1]
                    fields[int(proto[1])] = (f[2], found_name, omits)
    return found


def main():
    root = sys.argv[1]
    lines = []
    for package, folder in sorted(FOLDERS.items()):
        messages = protos(f"{root}/{folder}/generated.proto", package)
        go = structs(f"{root}/{folder}")
        register = open(f"{root}/{folder}/register.go").read()
        group = re.search(r'const GroupName = "([^"]*)"', register)[1]
        version = package.split(".")[1]
        lines.append((f"={group}/{version}".replace("=/", "="), package))
        for message, fields in messages.items():
            name = f"{package}.{message}"
            if name in SPECIAL or name in UNUSED:
                continue
            out = []
            for label, kind, proto_name, number in sorted(fields, key=lambda field: field[3]):
                known = go.get(message, {}).get(number)
                if known is None and message in ("ExtraValue", "Verbs"):
                    known = ("[]string", "items", True)
                if known is None and message.startswith("JSONSchemaPropsOr"):
                    gotype = "bool" if kind == "bool" else "*x" if label == "optional" else "[]x"
                    known = (gotype, proto_name, True)
                if known is None:
                    sys.exit(f"{name}.{proto_name}: no Go field has number {number}")
                gotype, json, omits = known
                full = SCALARS.get(kind) or short(kind, package)
                full = SPECIAL.get(full, full)
                if label == "repeated":
                    mark = "*"
                    assert gotype.startswith("[]") or "." in gotype or gotype[0].isupper(), (name, known)
                elif label == "map":
                    mark = "%"
                elif gotype.startswith("*"):
                    mark = ""
                elif kind == "bytes":
                    mark = "?" if omits else ""
                else:
                    mark = "?" if omits else "!"
                assert json or label == "optional" and not gotype.startswith("*"), (name, known)
                out.append(f"{number}={json}:{full}{mark}")
            lines.append((name, " ".join(out)))
    for name, fields in sorted(lines):
        print(f"{name}\t{fields}".rstrip("\t"))


main()
