//! `cargo xtask fuzz [TARGET [INPUTS]]`: fuzzes everything that reads what clients send, for a bounded number of inputs.
//!
//! - libFuzzer drives, guided by the coverage that the compiler's own instrumentation reports; stable Rust has both
//!   ([decision](../../docs/decisions/fuzzing.md)). The build has its own target directory, as its flags differ.
//! - Bounded by inputs, not by time, with a fixed seed: a busy machine is slower, not more lenient.
//! - Seeds are `fuzz/corpus`. What a run finds is kept in `target/fuzz/found` and is where the next one starts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};

/// Inputs per target, unless asked otherwise. All targets take less than a minute on two cores.
const INPUTS: u64 = 20_000;
/// Coverage counters and compared values, as libFuzzer wants them.
const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Runs one target or all; fails if an input broke one. Returns how many ran.
pub fn run(args: &[String]) -> Result<u64> {
    let inputs = args.get(1).map_or(Ok(INPUTS), |text| text.parse()).context("INPUTS is a number")?;
    let fuzzer = Fuzzer { program: build()?, inputs };
    let targets: Vec<String> = match args.first() {
        Some(name) => vec![name.clone()],
        None => targets()?,
    };
    let broken = fuzzer.all(&targets);
    ensure!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(targets.len() as u64)
}

/// The names of all targets: the folders of seeds, which a test of theirs compares with the targets.
fn targets() -> Result<Vec<String>> {
    let entries = std::fs::read_dir("fuzz/corpus").context("run this where the repository is")?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn build() -> Result<PathBuf> {
    let host = host()?;
    let built = Command::new("cargo")
        .args([
            "build",
            "--quiet",
            "--package",
            "tiphys-fuzz",
            "--profile",
            "fuzz",
            "--target-dir",
            "target/fuzz",
        ])
        // With a target named, build scripts and procedural macros go without the flags.
        .args(["--target", &host])
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "the fuzzer was not built");
    Ok(Path::new("target/fuzz").join(host).join("fuzz/tiphys-fuzz"))
}

/// This machine's target triple.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

struct Fuzzer {
    program: PathBuf,
    inputs: u64,
}

impl Fuzzer {
    /// Runs the targets, one per core at a time; what is wrong with those that broke.
    fn all(&self, targets: &[String]) -> Vec<String> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let work = || {
            let mut broken = Vec::new();
            while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                broken.extend(self.one(target).err().map(|error| format!("{error:#}")));
            }
            broken
        };
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let fell = |_| vec!["a fuzzing thread panicked".to_owned()];
            running.into_iter().flat_map(|worker| worker.join().unwrap_or_else(fell)).collect()
        })
    }

    fn one(&self, target: &str) -> Result<()> {
        let found = Path::new("target/fuzz/found").join(target);
        std::fs::create_dir_all(&found)?;
        let output = Command::new(&self.program)
            .env("FUZZ_TARGET", target)
            .args([
                format!("-runs={}", self.inputs),
                format!("-artifact_prefix=target/fuzz/broken-{target}-"),
            ])
            // An input that takes so long or so much (MB) is an attack that would succeed.
            .args(["-seed=36", "-timeout=30", "-rss_limit_mb=1024", "-dict=fuzz/words.dict"])
            .arg(found)
            .arg(Path::new("fuzz/corpus").join(target))
            .output()
            .with_context(|| self.program.display().to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("fuzzing {target} failed\n{}", tail(&said));
        }
        let done = said.lines().rfind(|line| line.contains("DONE")).unwrap_or_default();
        println!("fuzz {target}: {}", done.trim());
        Ok(())
    }
}

/// The last lines: what broke, and where the input is.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n")
}
