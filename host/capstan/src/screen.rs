//! What a person sees while the cluster starts: a line for each step with its time, then where to go next.

use std::path::Path;
use std::time::Instant;

/// Tells of steps on standard error, and of readiness on standard output.
pub(crate) struct Screen {
    started: Instant,
    step: Instant,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            step: now,
        }
    }

    /// A step is done.
    pub(crate) fn done(&mut self, step: &str) {
        eprintln!("  {step:<44} {:>6} ms", self.step.elapsed().as_millis());
        self.step = Instant::now();
    }

    /// The one line that says so, and what to try.
    pub(crate) fn ready(&self, kubeconfig: &Path, server: &str) {
        println!("Ready in {} ms: {server}", self.started.elapsed().as_millis());
        eprintln!(
            "\nThe cluster is up. Its kubeconfig:\n\n    export KUBECONFIG={}\n\nTo try next:\n\n    \
             kubectl get nodes\n    kubectl get plugins\n    \
             kubectl create deployment hello --image=capstan.dev/hello-http:1 --replicas=3 --port=8080\n    \
             kubectl expose deployment hello\n    \
             curl http://$(kubectl get service hello -o jsonpath={{.spec.clusterIP}}):8080/\n\n\
             Ctrl-C stops it; the same command resumes it.",
            kubeconfig.display()
        );
    }
}
