//! The configuration file: YAML whose keys are flags. Its values become the flags' defaults before the command line is
//! parsed, which gives the order of precedence for free and shows the values in `--help`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{CommandFactory, FromArgMatches};
use tiphys_api::Value;

use super::Cli;

/// Read when `--config` names no file.
const DEFAULT_FILE: &str = "/etc/tiphys/config.yaml";

/// Parses the command line over the configuration file it names. Prints help or usage errors itself and exits.
pub fn parse(args: &[OsString]) -> Result<Cli> {
    let file = named_file(args);
    let path = file.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let mut command = Cli::command();
    if file.is_some() || path.exists() {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
        command = underlay(command, &text, &path)?;
    }
    let matches = command.try_get_matches_from(args).unwrap_or_else(|error| error.exit());
    Ok(Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()))
}

/// The file named by `--config` or the environment; needed before the real parse.
fn named_file(args: &[OsString]) -> Option<PathBuf> {
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let word = word.to_string_lossy();
        if word == "--config" {
            return words.next().map(PathBuf::from);
        }
        if let Some(path) = word.strip_prefix("--config=") {
            return Some(path.into());
        }
    }
    std::env::var_os("TIPHYS_CONFIG").map(PathBuf::from)
}

/// Lays the file's values under the flags of every command that has them.
fn underlay(mut root: clap::Command, text: &str, path: &Path) -> Result<clap::Command> {
    let shown = path.display();
    let values: Value = serde_saphyr::from_str(text).with_context(|| format!("{shown} is no YAML"))?;
    let Value::Object(values) = values else {
        bail!("{shown} must hold flags as keys, such as `https-port: 7443`");
    };
    for (key, value) in &values {
        let texts = texts(value)
            .with_context(|| format!("{shown}: the value of {key} is no text, number or list"))?;
        let holders: Vec<String> =
            root.get_subcommands().filter(|c| has_flag(c, key)).map(|c| c.get_name().to_owned()).collect();
        if holders.is_empty() {
            bail!("{shown}: there is no flag --{key}; `tiphys up --help` lists them all");
        }
        for name in holders {
            root = root.mut_subcommand(name, |command| set_default(command, key, &texts));
        }
    }
    Ok(root)
}

fn has_flag(command: &clap::Command, long: &str) -> bool {
    long != "config" && command.get_arguments().any(|arg| arg.get_long() == Some(long))
}

fn set_default(command: clap::Command, long: &str, texts: &[String]) -> clap::Command {
    let Some(id) = command.get_arguments().find(|a| a.get_long() == Some(long)).map(|a| a.get_id().clone())
    else {
        return command;
    };
    let texts = texts.to_vec();
    // A value from the file also satisfies a flag that must be given.
    command.mut_arg(id, |arg| arg.required(false).default_values(texts))
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone().into()]),
        Value::Number(number) => Some(vec![number.to_string()]),
        Value::Bool(flag) => Some(vec![flag.to_string()]),
        Value::Array(items) => items.iter().map(|i| texts(i).filter(|t| t.len() == 1)?.pop()).collect(),
        Value::Null | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, Up};

    fn up(yaml: &str, args: &[&str]) -> Up {
        let command = underlay(Cli::command(), yaml, Path::new("f.yaml")).unwrap();
        let matches = command.try_get_matches_from(["tiphys", "up"].iter().chain(args)).unwrap();
        match Cli::from_arg_matches(&matches).unwrap().command {
            Command::Up(up) => *up,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_table_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_line_comes_before_the_file() {
        let yaml = "https-port: 7443\ntls-san: [a, b]\nno-merge: true\n";
        let from_file = up(yaml, &[]);
        assert_eq!((from_file.cluster.https_port, from_file.cluster.no_merge), (7443, true));
        assert_eq!(from_file.cluster.tls_san, ["a", "b"]);
        assert_eq!(up(yaml, &["--https-port", "8443"]).cluster.https_port, 8443);
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = underlay(Cli::command(), "htps-port: 1", Path::new("f.yaml")).unwrap_err();
        assert!(error.to_string().contains("no flag --htps-port"), "{error}");
    }
}
