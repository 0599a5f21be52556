//! The fuzzer: under libFuzzer where it was built for that, otherwise a program that runs a target on files.
//!
//! `$FUZZ_TARGET` names the target in both. One binary holds all, as linking one per target would cost more than
//! running it.

#![cfg_attr(fuzzing, no_main)]

use tiphys_fuzz::{TARGETS, Target, target};

/// The target that was asked for; the names of all if it is none of them.
fn asked() -> Result<Target, String> {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    target(&name).ok_or_else(|| format!("FUZZ_TARGET={name:?} is none of {}", names.join(", ")))
}

#[cfg(fuzzing)]
mod engine {
    use std::sync::OnceLock;

    use super::{Target, asked};

    static TARGET: OnceLock<Target> = OnceLock::new();

    libfuzzer_sys::fuzz_target!(|data: &[u8]| {
        let run = TARGET.get_or_init(|| asked().expect("cargo xtask fuzz names the target"));
        run(data);
    });
}

/// Runs the target on each file: what a person does with an input that failed.
#[cfg(not(fuzzing))]
fn main() -> Result<(), String> {
    let run = asked()?;
    for path in std::env::args().skip(1) {
        run(&std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?);
        println!("{path}: passed");
    }
    Ok(())
}
