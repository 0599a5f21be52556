//! What programs do through the official Python client: `tests/clients/client.py`, a case per part of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{Run, Table};
use crate::harness::{Namespace, run};

pub const CASES: Table = &[
    ("python-client-changes-objects", Run::SharedIf(missing, |ns| part(ns, "objects"))),
    ("python-client-patches-in-every-form", Run::SharedIf(missing, |ns| part(ns, "patches"))),
    ("python-client-applies-server-side", Run::SharedIf(missing, |ns| part(ns, "applies"))),
    ("python-client-pages-through-lists", Run::SharedIf(missing, |ns| part(ns, "pages"))),
    ("python-client-watches-and-resumes", Run::SharedIf(missing, |ns| part(ns, "watches"))),
    ("python-client-logs-execs-and-forwards", Run::SharedIf(missing, |ns| part(ns, "streams"))),
    ("python-client-is-dynamic", Run::SharedIf(missing, |ns| part(ns, "dynamics"))),
];

/// A Python that has the client; `scripts/packages test` makes it.
fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python-client/bin/python")
}

/// Why these cases cannot run here.
fn missing() -> Option<String> {
    let why = "no Python client; `scripts/packages test` installs it from PyPI";
    (!python().exists()).then(|| why.to_owned())
}

fn part(ns: &Namespace<'_>, name: &str) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/client.py");
    run(Command::new(python()).arg(script).arg(name).arg(ns.cluster.kubeconfig()).arg(&ns.name)).map(drop)
}
