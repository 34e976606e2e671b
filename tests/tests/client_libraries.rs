//! The Python and the JavaScript client on one cluster: each runs its script of `tests/fixtures/clients`, which says
//! what it does, check by check.

use capstan_tests::{Cluster, Library};

/// Both at once, as clients come; each has a namespace of its own.
#[test]
fn the_client_libraries_do_what_their_users_do() {
    let libraries = Library::all();
    if libraries.is_empty() {
        return;
    }
    let cluster = Cluster::start();
    std::thread::scope(|scope| {
        for library in libraries {
            let kubeconfig = cluster.kubeconfig();
            scope.spawn(move || library.passes("client", &kubeconfig));
        }
    });
}
