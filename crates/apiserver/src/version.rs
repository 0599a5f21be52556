//! What this program is and what it was built from, in the terms of Kubernetes' `version.Info`, which names Go's parts.

use tiphys_api::{KUBERNETES_VERSION, Value, json};

/// `v1.36.0+tiphys0.1.0`
pub fn git_version(build: &str) -> String {
    match build {
        "" => KUBERNETES_VERSION.to_owned(),
        build => format!("{KUBERNETES_VERSION}+{build}"),
    }
}

/// What `/version` answers.
pub fn info(git_version: &str) -> Value {
    let [major, minor] = numbers(git_version);
    json!({
        "major": major, "minor": minor, "gitVersion": git_version,
        "gitCommit": env!("TIPHYS_BUILD_COMMIT"), "gitTreeState": env!("TIPHYS_BUILD_TREE"),
        "buildDate": env!("TIPHYS_BUILD_DATE"), "goVersion": concat!("rust", env!("TIPHYS_BUILD_COMPILER")),
        "compiler": "rustc", "platform": platform(),
    })
}

/// The labels of the metric `kubernetes_build_info`.
pub fn labels(git_version: &str) -> String {
    let ([major, minor], platform) = (numbers(git_version), platform());
    format!(
        "build_date=\"{}\",compiler=\"rustc\",git_commit=\"{}\",git_tree_state=\"{}\",git_version=\"{git_version}\",\
         go_version=\"rust{}\",major=\"{major}\",minor=\"{minor}\",platform=\"{platform}\"",
        env!("TIPHYS_BUILD_DATE"),
        env!("TIPHYS_BUILD_COMMIT"),
        env!("TIPHYS_BUILD_TREE"),
        env!("TIPHYS_BUILD_COMPILER"),
    )
}

/// The first two numbers of a version.
fn numbers(git_version: &str) -> [&str; 2] {
    let mut numbers = git_version.trim_start_matches('v').split(['.', '+']);
    std::array::from_fn(|_| numbers.next().unwrap_or_default())
}

/// In Go's names, which `kubectl version` users know.
fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_said() {
        let info = info(&git_version("tiphys1"));
        assert_eq!((&info["major"], &info["minor"]), (&json!("1"), &json!("36")));
        // Sources may come without their history.
        assert!(info["gitCommit"].as_str().is_some_and(|commit| matches!(commit.len(), 0 | 40)));
        assert!(info["goVersion"].as_str().is_some_and(|version| version.starts_with("rust1.")));
        assert!(labels("v1.36.0+x").contains("git_version=\"v1.36.0+x\",go_version=\"rust1."));
    }
}
