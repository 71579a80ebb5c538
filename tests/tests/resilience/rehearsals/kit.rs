//! A service that fails as long as a file is there, and a rehearsal that makes the file.

use std::fs;
use std::path::{Path, PathBuf};

use palisade_tests::Wild;
use palisade_tests::process::{Finished, Process, run};
use palisade_tests::wild::Act;
use tempfile::TempDir;

use crate::PALISADE;

pub(super) struct Rehearsal {
    folder: TempDir,
    _service: Wild,
}

impl Rehearsal {
    /// One step of a second.
    pub(super) async fn of(hold: &str, abort_when: &str) -> Self {
        Self::with("1s", hold, abort_when).await
    }

    /// One step of ten minutes, and another.
    pub(super) async fn long(hold: &str, abort_when: &str) -> Self {
        Self::with("10m", hold, abort_when).await
    }

    async fn with(length: &str, hold: &str, abort_when: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join("broken");
        let service =
            Wild::http1(move |_| if broken.exists() { Act::Answer(503) } else { Act::Answer(200) }).await;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (begun, broken) = (path("begun"), path("broken"));
        let document = format!(
            r#"
apiVersion: palisade.mesh/v1
kind: Rehearsal
metadata: {{name: r, namespace: bank}}
spec:
  values: {{service: '{service}', first: 'true', last: 'true'}}
  load:
    requests: [{{url: 'http://${{service}}/transfers', method: POST, body: pay}}]
    ratePerSecond: 50
  warmUp: 100ms
  steadyState: {{window: 1s, successRate: 99, p99: 5s}}
  steps:
  - name: <b>dead</b>
    for: {length}
    command: [sh, -c, 'touch {begun} {broken}; ${{last}}']
    undo: [sh, -c, '${{first}}; rm -f {broken}']
    {hold}
  - {{name: never, for: 1s, command: ['true'], undo: ['true']}}
  abortWhen: {{{abort_when}}}
"#,
            service = service.address()
        );
        fs::write(folder.path().join("rehearsal.yaml"), document).unwrap();
        Self { folder, _service: service }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.path("broken").exists()
    }

    pub(super) fn break_it(&self) {
        fs::write(self.path("broken"), "").unwrap();
    }

    fn args(&self, more: &[&str]) -> Vec<String> {
        let file = self.path("rehearsal.yaml").display().to_string();
        let more = more.iter().map(|word| match *word {
            "report.html" => self.path(word).display().to_string(),
            word => word.to_owned(),
        });
        ["rehearse".to_owned(), file].into_iter().chain(more).collect()
    }

    /// To its end.
    pub(super) async fn play(&self, more: &[&str]) -> Finished {
        run(Path::new(PALISADE), &self.args(more)).await
    }

    /// And does not wait for it.
    pub(super) fn start(&self) -> Process {
        Process::start(Path::new(PALISADE), self.folder.path(), "rehearse", &self.args(&[]))
    }
}
