//! Tells the program what it is built from, for `/version`.
//!
//! A release is asked anew whenever sources or history change. A development build is not, since every commit would
//! compile the crate and all that needs it again; so it calls its tree dirty, which it mostly is.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    for path in
        ["../../.git/logs/HEAD", ".."].into_iter().filter(|path| is_release && Path::new(path).exists())
    {
        println!("cargo::rerun-if-changed={path}");
    }
    let commit = said("git", &["rev-parse", "HEAD"]);
    // Reproducible, unlike the time of the build.
    let date = said("git", &["show", "--no-patch", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", "--format=%cd"]);
    let changes = said("git", &["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"]);
    let state = if is_release && changes.as_deref() == Some("") { "clean" } else { "dirty" };
    let compiler = said(&std::env::var("RUSTC").unwrap_or_default(), &["--version"]);
    let compiler = compiler.as_deref().and_then(|text| text.split(' ').nth(1)).unwrap_or_default();
    tell("COMMIT", commit.as_deref().unwrap_or_default());
    tell("DATE", date.as_deref().unwrap_or("1970-01-01T00:00:00Z"));
    tell("TREE", state);
    tell("COMPILER", compiler);
}

fn tell(name: &str, value: &str) {
    println!("cargo::rustc-env=TIPHYS_BUILD_{name}={value}");
}

/// What a program says; `None` where it fails or is not there, as where the sources come without history.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).env("TZ", "UTC").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
