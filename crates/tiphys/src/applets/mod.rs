//! What the binary does inside a container: the images `tiphys.local/pause` and `tiphys.local/hello` are this file.
//!
//! Test machines have no internet, so nothing can be pulled; a static binary runs in an image `FROM scratch`. In the
//! hello image, links in `/bin` name the few tools that trying out a cluster needs: `tar` (for `kubectl cp`), `get`,
//! `lookup`, `cat`, `env`, `sleep`, and `id`, `ls`, `readlink`, `chmod`, `tee`, `touch`, `write`, `rm`, `exit` to see what
//! a pod may do. They run before any runtime is started, in a few milliseconds and little memory.

mod files;
mod health;
mod hello;
pub mod image;
mod pause;
mod tar;
mod tools;

use std::ffi::OsString;
use std::process::ExitCode;

/// Names under which `/bin` of the hello image links to the binary.
pub const TOOLS: &[&str] = &[
    "cat", "chmod", "env", "get", "id", "lookup", "ls", "readlink", "rm", "sleep", "tar", "tee", "touch",
    "true", "false", "exit", "write",
];

/// Runs the applet that the command line names, if it names one: by the program's own name, or by a hidden command.
pub fn run(args: &[OsString]) -> Option<ExitCode> {
    let program = std::path::Path::new(args.first()?).file_name()?.to_str()?.to_owned();
    let rest = args.get(1..).unwrap_or_default();
    if TOOLS.contains(&program.as_str()) {
        return Some(finish(&program, tool(&program, rest)));
    }
    match rest.first()?.to_str()? {
        "pause" => Some(finish("pause", pause::run())),
        "hello" => Some(finish("hello", hello::run(rest.get(1..).unwrap_or_default()))),
        _ => None,
    }
}

fn tool(name: &str, args: &[OsString]) -> anyhow::Result<ExitCode> {
    match name {
        "tar" => tar::run(args),
        "get" => tools::get(args),
        "lookup" => tools::lookup(args),
        "cat" => tools::cat(args),
        "chmod" => files::chmod(args),
        "env" => tools::env(),
        "id" => files::id(),
        "ls" => files::ls(args),
        "readlink" => files::readlink(args),
        "rm" => files::rm(args),
        "touch" => files::touch(args),
        "sleep" => tools::sleep(args),
        "tee" => files::tee(args),
        "write" => tools::write(args),
        "exit" => tools::exit(args),
        "true" => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

fn finish(name: &str, result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("{name}: {error:#}");
        ExitCode::FAILURE
    })
}
