//! The project's own tasks, as `cargo xtask <task>`: one file per task, no task knows another.

use std::process::ExitCode;

mod fuzz;
mod schema;
mod test;
mod tidy;

const USAGE: &str = "usage: cargo xtask <task>

tasks:
  fuzz [TARGET [INPUTS]]
                      fuzz what reads clients' bytes: all targets, or one
  schema [DIRECTORY]  regenerate crates/api/schema from the Kubernetes API facts in DIRECTORY
                      (default: ../shared/kubernetes-api beside the repository)
  test                run every test, and print one closing line of counts
  tidy                check the house rules";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let done = match task.as_str() {
        "fuzz" => fuzz::run(&rest).map(drop),
        "schema" => schema::run(&rest),
        "test" => test::run(),
        "tidy" => tidy::run(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask {task}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
