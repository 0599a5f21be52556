//! What pods have of the network: a namespace each, which containerd keeps as a mounted file, and addresses, which the
//! CNI plugin `host-local` keeps as files.
//!
//! A containerd that is killed while it makes a sandbox forgets both, and they would stay for ever. Its next start finds
//! them by this: they were there before it, and no bundle is of their sandbox. A sandbox that is about to be stopped has
//! no bundle either; its end finds nothing to take down then, which is no error.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

use super::{Config, shims};

/// Where containerd mounts the namespaces, below its state.
const NAMESPACES: &str = "state/io.containerd.grpc.v1.cri/netns";

/// What pods have at one moment.
#[derive(Debug)]
pub struct Networks {
    namespaces: Vec<PathBuf>,
    addresses: Vec<PathBuf>,
}

impl Networks {
    /// All there are now.
    pub fn read(config: &Config) -> Self {
        let networks = entries(&config.cni_state_dir);
        let is_address = |file: &PathBuf| {
            file.file_name().and_then(|name| name.to_str()?.parse::<IpAddr>().ok()).is_some()
        };
        Self {
            namespaces: entries(&config.dir.join(NAMESPACES)),
            addresses: networks.iter().flat_map(|dir| entries(dir)).filter(is_address).collect(),
        }
    }

    /// Removes those of sandboxes that the containerd that runs now does not know. How many there were.
    pub fn end_forgotten(&self, config: &Config) -> usize {
        if self.namespaces.is_empty() && self.addresses.is_empty() {
            return 0;
        }
        let bundles = entries(&config.dir.join(shims::BUNDLES));
        let specs: Vec<String> =
            bundles.iter().filter_map(|bundle| fs::read_to_string(bundle.join("config.json")).ok()).collect();
        let named = |file: &Path| specs.iter().any(|spec| spec.contains(&*file.to_string_lossy()));
        let namespaces = self.namespaces.iter().filter(|file| !named(file) && end_namespace(file));
        let leased = |file: &Path| {
            // The sandbox's id, and the interface in the next line.
            let lease = fs::read_to_string(file).unwrap_or_default();
            bundles
                .iter()
                .any(|bundle| bundle.file_name().is_some_and(|id| lease.lines().next() == id.to_str()))
        };
        let addresses = self.addresses.iter().filter(|file| !leased(file) && fs::remove_file(file).is_ok());
        namespaces.count() + addresses.count()
    }
}

fn end_namespace(file: &Path) -> bool {
    // One that is no mount any more is a file to remove.
    let _ = unmount(file, UnmountFlags::DETACH);
    fs::remove_file(file).is_ok()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_bundle_is_of_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            dir: dir.path().join("containerd"),
            cni_bin_dir: "/usr/lib/cni".into(),
            cni_conf_dir: dir.path().join("conf"),
            cni_state_dir: dir.path().join("cni"),
            sandbox_image: "pause".into(),
            log_file: dir.path().join("log"),
            restrict_oom_score: true,
        };
        let write = |file: PathBuf, text: &str| {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            file
        };
        let namespace = |name: &str| write(config.dir.join(NAMESPACES).join(name), "");
        let lease = |address: &str, id: &str| {
            write(config.cni_state_dir.join("pods").join(address), &format!("{id}\r\neth0"))
        };
        let kept = [namespace("cni-1"), lease("10.42.0.2", "one"), lease("last_reserved_ip.0", "10.42.0.3")];
        let forgotten = [namespace("cni-2"), lease("10.42.0.3", "two")];
        let spec = format!(r#"{{"linux":{{"namespaces":[{{"path":"{}"}}]}}}}"#, kept[0].display());
        write(config.dir.join(shims::BUNDLES).join("one/config.json"), &spec);
        let before = Networks::read(&config);
        let later = namespace("cni-3");
        assert_eq!(before.end_forgotten(&config), 2);
        assert!(kept.iter().chain([&later]).all(|file| file.exists()));
        assert!(!forgotten.iter().any(|file| file.exists()));
    }
}
