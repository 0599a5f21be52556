//! Collects the description of every built-in type and field from the sources of `k8s-openapi`, so that
//! `kubectl explain` and the OpenAPI documents can tell them. The project itself holds no copy of those texts.
//!
//! - They are read from the `json_schema!` blocks of the crate that cargo resolved. Compiling it with its feature
//!   `schemars` and asking it would tell the same, for two minutes of a processor at every first build.
//! - Output: `descriptions.txt` in `OUT_DIR`. A line `T name` starts a type, the next line is its text; then come
//!   pairs of lines, a field's name and its text. Texts are escaped as in JSON, types sorted by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

const CRATE: &str = "k8s-openapi";
const RELEASE: &str = "v1_36";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    let mut types = BTreeMap::new();
    match source() {
        Ok(source) => visit(&source.join("src").join(RELEASE), &mut types)?,
        Err(error) => println!("cargo::warning=types will have no descriptions: {error}"),
    }
    let text: String = types.into_iter().map(|(name, lines)| format!("T {name}\n{lines}")).collect();
    let directory = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&directory).join("descriptions.txt"), text)
}

/// Where the crate's sources are: among those that cargo unpacked, or (vendored, replaced) where cargo says.
fn source() -> io::Result<PathBuf> {
    let lock = fs::read_to_string("../../Cargo.lock")?;
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{CRATE}\"")));
    let version = entry.and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next());
    let version = version.ok_or_else(|| io::Error::other(format!("Cargo.lock has no {CRATE}")))?;
    unpacked(&format!("{CRATE}-{version}")).map_or_else(resolved, Ok)
}

fn unpacked(name: &str) -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cargo")))?;
    let registries = fs::read_dir(home.join("registry/src")).ok()?;
    registries.filter_map(|entry| Some(entry.ok()?.path().join(name))).find(|path| path.is_dir())
}

fn resolved() -> io::Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = env::var("TARGET").map_err(io::Error::other)?;
    let arguments = ["metadata", "--format-version=1", "--locked", "--filter-platform", &target];
    let output = Command::new(cargo).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // A dependency on the crate names its source next, the crate itself its version.
    let package = text.split_once(&format!("\"name\":\"{CRATE}\",\"version\""));
    let manifest = package.and_then(|(_, rest)| rest.split("\"manifest_path\":\"").nth(1)?.split('"').next());
    let missing = || io::Error::other(format!("cargo metadata names no {CRATE}: {}", output.status));
    Path::new(manifest.ok_or_else(missing)?).parent().map(Path::to_path_buf).ok_or_else(missing)
}

fn visit(directory: &Path, types: &mut BTreeMap<String, String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            visit(&path, types)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            types.extend(read(&fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

/// The type that a source file describes, and its lines.
fn read(source: &str) -> Option<(String, String)> {
    let (_, rest) = source.split_once("fn schema_name()")?;
    let name = rest.split('"').nth(1)?.to_owned();
    let (_, block) = rest.split_once("json_schema!({")?;
    let mut field = "";
    let (mut own, mut fields) = (String::new(), String::new());
    for line in block.lines() {
        let depth = line.len() - line.trim_start().len();
        let line = line.trim_start();
        match (depth, description(line)) {
            (12, Some(text)) => own = text.to_owned(),
            (20, Some(text)) => fields.push_str(&format!("{field}\n{text}\n")),
            (16, None) if line.starts_with('"') => field = line.split('"').nth(1)?,
            _ => {}
        }
    }
    Some((name, format!("{own}\n{fields}")))
}

fn description(line: &str) -> Option<&str> {
    let plain = line.strip_prefix("\"description\": \"").and_then(|rest| rest.strip_suffix("\","));
    let call = "schema_obj.ensure_object().insert(\"description\".into(), \"";
    plain.or_else(|| line.strip_prefix(call)?.strip_suffix("\".into());"))
}
