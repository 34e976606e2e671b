//! How the server describes itself and in which forms it answers: discovery, OpenAPI, version, content types, tables.

use anyhow::{Context, ensure};
use http::Method;
use serde_json::{Value, json};

use super::Ground;
use super::api::text;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const GNOSTIC: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

pub(super) async fn legacy_discovery(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    let versions = api.get("/api").await?.expect(200)?.body;
    ensure!(
        versions["kind"] == "APIVersions" && versions["versions"] == json!(["v1"]),
        "{versions}"
    );
    let groups = api.get("/apis").await?.expect(200)?.body;
    ensure!(groups["kind"] == "APIGroupList", "{}", groups["kind"]);
    for group in groups["groups"].as_array().context("groups")? {
        let (name, preferred) = (text(&group["name"]), text(&group["preferredVersion"]["version"]));
        let versions = group["versions"].as_array().context("versions")?;
        ensure!(
            versions.iter().any(|one| one["version"] == preferred.as_str()),
            "{name} prefers {preferred}"
        );
        let one = api.get(&format!("/apis/{name}")).await?.expect(200)?.body;
        ensure!(
            one["kind"] == "APIGroup" && one["preferredVersion"] == group["preferredVersion"],
            "{name}: {one}"
        );
        for version in versions {
            let list = api
                .get(&format!("/apis/{}", text(&version["groupVersion"])))
                .await?
                .expect(200)?
                .body;
            ensure!(list["kind"] == "APIResourceList", "{list}");
        }
    }
    let core = api.get("/api/v1").await?.expect(200)?.body;
    let pods = core["resources"].as_array().context("resources")?;
    let pods = pods.iter().find(|row| row["name"] == "pods").context("pods")?;
    ensure!(
        !text(&pods["storageVersionHash"]).is_empty(),
        "pods have no storageVersionHash"
    );
    Ok(())
}

pub(super) async fn aggregated_discovery(ground: &Ground) -> anyhow::Result<()> {
    for path in ["/api", "/apis"] {
        let found = ground.api.accept(AGGREGATED).get(path).await?.expect(200)?;
        ensure!(
            found.header("content-type").contains("as=APIGroupDiscoveryList"),
            "{}",
            found.header("content-type")
        );
        ensure!(
            found.body["kind"] == "APIGroupDiscoveryList",
            "{}",
            found.body["kind"]
        );
        for group in found.body["items"].as_array().context("items")? {
            for version in group["versions"].as_array().context("versions")? {
                ensure!(version["freshness"] == "Current", "{version}");
            }
        }
        let tag = found.header("etag").to_owned();
        ensure!(!tag.is_empty(), "no ETag");
        let again = ground
            .api
            .accept(AGGREGATED)
            .header("if-none-match", &tag)
            .get(path)
            .await?;
        ensure!(again.status == 304, "{} for the same ETag", again.status);
        let plain = ground
            .api
            .accept("application/json")
            .get(path)
            .await?
            .expect(200)?;
        ensure!(
            plain.body["kind"] != "APIGroupDiscoveryList",
            "it came without being asked for"
        );
    }
    let apps = ground.api.accept(AGGREGATED).get("/apis").await?.body;
    let apps = apps["items"]
        .as_array()
        .context("items")?
        .iter()
        .find(|group| group["metadata"]["name"] == "apps");
    let resources = apps.context("apps")?["versions"][0]["resources"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let deployments = resources
        .iter()
        .find(|one| one["resource"] == "deployments")
        .context("deployments")?;
    let below: Vec<String> = deployments["subresources"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| text(&one["subresource"]))
        .collect();
    ensure!(
        below.contains(&"scale".to_owned()) && below.contains(&"status".to_owned()),
        "{below:?}"
    );
    Ok(())
}

pub(super) async fn openapi_v3(ground: &Ground) -> anyhow::Result<()> {
    let api = &ground.api;
    let index = api.get("/openapi/v3").await?.expect(200)?.body;
    let address = text(&index["paths"]["apis/apps/v1"]["serverRelativeURL"]);
    ensure!(address.contains("hash="), "{address}");
    let apps = api.get(&address).await?.expect(200)?;
    ensure!(
        apps.header("cache-control").contains("immutable"),
        "{}",
        apps.header("cache-control")
    );
    let deployment = &apps.body["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
    ensure!(
        deployment["x-kubernetes-group-version-kind"][0]["kind"] == "Deployment",
        "{deployment}"
    );
    let pod = &apps.body["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    ensure!(
        pod["x-kubernetes-patch-merge-key"] == "name" && pod["x-kubernetes-list-type"] == "map",
        "{pod}"
    );
    let stale = api.get("/openapi/v3/apis/apps/v1?hash=0000").await?;
    ensure!(
        matches!(stale.status.as_u16(), 200 | 301),
        "{} for a stale hash",
        stale.status
    );
    Ok(())
}

pub(super) async fn openapi_v2(ground: &Ground) -> anyhow::Result<()> {
    let spec = ground.api.get("/openapi/v2").await?.expect(200)?.body;
    ensure!(spec["swagger"] == "2.0", "{}", spec["swagger"]);
    ensure!(
        spec["definitions"]["io.k8s.api.core.v1.Pod"].is_object(),
        "no Pod"
    );
    let binary = ground.api.accept(GNOSTIC).get("/openapi/v2").await?.expect(200)?;
    ensure!(
        binary.header("content-type").contains("protobuf"),
        "{}",
        binary.header("content-type")
    );
    ensure!(
        binary
            .bytes
            .windows(22)
            .any(|part| part == b"io.k8s.api.core.v1.Pod"),
        "no Pod in it"
    );
    Ok(())
}

pub(super) async fn content_types(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection("configmaps"));
    let yaml = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: in-yaml}\ndata: {a: b}\n".to_vec();
    api.send(Method::POST, &maps, "application/yaml", yaml)
        .await?
        .expect(201)?;
    let yaml = api
        .accept("application/yaml")
        .get(&format!("{maps}/in-yaml"))
        .await?
        .expect(200)?;
    ensure!(
        yaml.header("content-type").contains("yaml") && yaml.text().contains("name: in-yaml"),
        "{}",
        yaml.text()
    );
    api.send(Method::POST, &maps, "text/plain", b"x".to_vec())
        .await?
        .refused(415, "UnsupportedMediaType")?;
    api.accept("image/png")
        .get(&maps)
        .await?
        .refused(406, "NotAcceptable")?;
    Ok(())
}

pub(super) async fn protobuf(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection("configmaps"));
    api.post(
        &maps,
        &json!({ "metadata": { "name": "in-protobuf" }, "data": { "a": "b" } }),
    )
    .await?
    .expect(201)?;
    let kind = "application/vnd.kubernetes.protobuf";
    let found = api
        .accept(kind)
        .get(&format!("{maps}/in-protobuf"))
        .await?
        .expect(200)?;
    ensure!(
        found.header("content-type") == kind && found.bytes.starts_with(b"k8s\0"),
        "{}",
        found.header("content-type")
    );
    let path = format!("{maps}/in-protobuf");
    let back = api
        .accept(kind)
        .send(Method::PUT, &path, kind, found.bytes)
        .await?
        .expect(200)?;
    ensure!(back.bytes.starts_with(b"k8s\0"), "no protobuf");
    ensure!(api.get(&path).await?.body["data"]["a"] == "b", "it is another");
    Ok(())
}

pub(super) async fn server_version(ground: &Ground) -> anyhow::Result<()> {
    let version = ground.api.get("/version").await?.expect(200)?.body;
    for part in ["major", "minor"] {
        text(&version[part])
            .parse::<u32>()
            .with_context(|| format!("{part}: {version}"))?;
    }
    ensure!(text(&version["gitVersion"]).starts_with('v'), "{version}");
    Ok(())
}

pub(super) async fn tables(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection("configmaps"));
    api.post(&maps, &json!({ "metadata": { "name": "in-a-table" } }))
        .await?
        .expect(201)?;
    let api = api.accept("application/json;as=Table;v=v1;g=meta.k8s.io");
    let one = format!("{maps}?fieldSelector=metadata.name%3Din-a-table");
    for (include, kind) in [
        ("None", Value::Null),
        ("Metadata", json!("PartialObjectMetadata")),
        ("Object", json!("ConfigMap")),
    ] {
        let table = api
            .get(&format!("{one}&includeObject={include}"))
            .await?
            .expect(200)?
            .body;
        ensure!(table["rows"][0]["cells"][0] == "in-a-table", "{table}");
        ensure!(
            table["rows"][0]["object"]["kind"] == kind,
            "{include}: {}",
            table["rows"][0]["object"]
        );
    }
    Ok(())
}

pub(super) async fn no_tables_of_reviews(ground: &Ground) -> anyhow::Result<()> {
    let api = ground.api.accept("application/json;as=Table;v=v1;g=meta.k8s.io");
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": { "verb": "get", "resource": "pods" } },
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    api.post(path, &review).await?.refused(406, "NotAcceptable")?;
    Ok(())
}

pub(super) async fn metadata_only(ground: &Ground) -> anyhow::Result<()> {
    let secrets = ground.collection("secrets");
    let secret = json!({ "metadata": { "name": "only-its-metadata" }, "stringData": { "a": "b" } });
    ground.api.post(&secrets, &secret).await?.expect(201)?;
    let api = ground
        .api
        .accept("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io");
    let one = api
        .get(&format!("{secrets}/only-its-metadata"))
        .await?
        .expect(200)?
        .body;
    ensure!(
        one["kind"] == "PartialObjectMetadata" && one["data"].is_null(),
        "{one}"
    );
    let api = ground
        .api
        .accept("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
    let list = api.get(&secrets).await?.expect(200)?.body;
    ensure!(
        list["kind"] == "PartialObjectMetadataList" && list["items"][0]["data"].is_null(),
        "{list}"
    );
    Ok(())
}
