//! Log lines to standard error: text for people, JSON for machines.

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::cli::{LogFormat, Logging};

/// Starts logging for the whole process.
pub fn start(flags: &Logging) -> Result<()> {
    let filter = EnvFilter::try_new(directives(&flags.log_level)).with_context(|| {
        format!("--log-level {:?} is none of error, warn, info, debug, trace", flags.log_level)
    })?;
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    match flags.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

/// A plain level is meant for our own parts; libraries only warn.
fn directives(level: &str) -> String {
    match level.chars().all(char::is_alphabetic) {
        true => format!("warn,tiphys={level}"),
        false => level.to_owned(),
    }
}
