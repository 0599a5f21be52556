//! `tiphys-bench`: what docs/benchmarks.md records, measured on a real cluster of the release binary.
//!
//! - One file per measurement ([`measure`]). Each starts its own `tiphys up` in its own directory ([`cluster`]), so none
//!   sees another's leftovers, and removes it.
//! - Times come from events: the API's watches and the start's own messages (sd_notify). Nothing is polled.
//! - A mark that is missed is printed as missed and changes no exit code: timing depends on the machine. What fails to
//!   run at all does.

mod cluster;
mod load;
mod machine;
mod measure;
mod objects;
mod process;
mod report;
mod stats;
mod wire;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

use cluster::Ground;
use measure::{ALL, Measure};
use report::Form;

const USAGE: &str = "\
Measures a release build of Tiphys and prints: measure | value | mark | reference

usage: tiphys-bench [--bin FILE] [--dir DIR] [--markdown] [MEASURE...]

  --bin FILE   the binary to measure (default: target/release/tiphys)
  --dir DIR    where the clusters keep their data; a real disk, not a tmpfs (default: the system's temporary directory)
  --markdown   print a Markdown table
  MEASURE      only these; without any, all:
";

/// What was typed.
struct Options {
    ground: Ground,
    form: Form,
    chosen: Vec<&'static Measure>,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", usage());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("tiphys-bench: {error:#}\n{}", usage());
            return ExitCode::from(2);
        }
    };
    // One thread: the client shall leave the other cores to what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(&options))) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("tiphys-bench: {failed} of {} measurements did not run", options.chosen.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tiphys-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what was chosen; the number of those that failed.
async fn run(options: &Options) -> Result<usize> {
    let root = rustix::process::geteuid().is_root();
    println!("{}\n", machine::describe(&options.ground)?);
    options.form.head();
    let mut failed = 0;
    for measure in &options.chosen {
        if measure.needs_root && !root {
            eprintln!("tiphys-bench: {}: skipped, it starts containers and needs root", measure.name);
            continue;
        }
        eprintln!("tiphys-bench: {}...", measure.name);
        match (measure.run)(&options.ground).await {
            Ok(rows) => rows.iter().for_each(|row| options.form.row(row)),
            Err(error) => {
                failed += 1;
                eprintln!("tiphys-bench: {}: {error:#}", measure.name);
            }
        }
    }
    Ok(failed)
}

/// Reads the command line; `None` when help is wanted.
fn options(args: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let mut args = args;
    let mut options = Options {
        ground: Ground { bin: default_binary(), dir: std::env::temp_dir() },
        form: Form::Text,
        chosen: Vec::new(),
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().map(PathBuf::from);
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--markdown" => options.form = Form::Markdown,
            "--bin" => options.ground.bin = value().unwrap_or_default(),
            "--dir" => options.ground.dir = value().unwrap_or_default(),
            name => match ALL.iter().find(|measure| measure.name == name) {
                Some(measure) => options.chosen.push(measure),
                None => bail!("there is no option or measure {name:?}"),
            },
        }
    }
    if options.chosen.is_empty() {
        options.chosen = ALL.iter().collect();
    }
    if !options.ground.bin.exists() {
        bail!("{} is missing; `make bench` builds it", options.ground.bin.display());
    }
    Ok(Some(options))
}

fn usage() -> String {
    ALL.iter().fold(USAGE.to_owned(), |text, m| text + &format!("    {:<8} {}\n", m.name, m.about))
}

/// Where `make build` puts it.
fn default_binary() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/tiphys")
}
