//! What of Kubernetes holds, row by row, on the real binary; `docs/compatibility.md` says the same.

use std::path::Path;

use capstan_tests::Cluster;
use capstan_tests::compat::{page, run};

#[test]
fn every_row_is_as_the_page_says() {
    let cluster = Cluster::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let outcomes = runtime
        .block_on(run(&cluster.kubeconfig()))
        .expect("the cluster answers");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let made = page(&outcomes, &root).unwrap_or_else(|wrong| panic!("{wrong:#}"));
    println!("{} of {} rows hold", made.held, made.rows);
    let path = root.join("docs/compatibility.md");
    if std::env::var_os("CAPSTAN_COMPAT_WRITE").is_some() {
        std::fs::write(&path, &made.text).expect("docs can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made.text,
        "docs/compatibility.md says something else: run with CAPSTAN_COMPAT_WRITE=1"
    );
}
