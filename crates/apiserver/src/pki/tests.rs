//! The plan alone, and the whole set on a disk.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use jiff::{Timestamp, ToSpan};
use rustls::pki_types::{ServerName, UnixTime};

use super::plan::{Due, Facts, due, spec, worn};
use super::*;
use crate::auth::PeerCertificates;
use crate::auth::x509::ClientCa;

fn config() -> Config {
    Config {
        node_name: "Node-1".into(),
        node_ips: vec!["192.0.2.7".parse().unwrap()],
        service_ips: vec!["10.43.0.1".parse().unwrap()],
        cluster_domain: "cluster.local".into(),
        extra_sans: vec!["api.example".into(), "198.51.100.9".into()],
    }
}

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

#[test]
fn the_api_server_has_all_its_names() {
    let sans = spec(Leaf::ApiServer, &config()).sans;
    let expected = [
        "10.43.0.1",
        "127.0.0.1",
        "192.0.2.7",
        "198.51.100.9",
        "::1",
        "api.example",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "node-1",
    ];
    assert_eq!(sans, expected.map(str::to_owned).into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn a_certificate_is_due_for_each_reason() {
    let spec = spec(Leaf::KubeletClient, &config());
    let good = Facts {
        name: "system:node:Node-1".into(),
        groups: vec!["system:nodes".into()],
        sans: BTreeSet::new(),
        not_before: 0,
        not_after: 300,
        signed_by: vec![1],
        fits_key: true,
    };
    let due = |facts: &Facts, now| due(&spec, Some(facts), &[1], now);
    assert_eq!(due(&good, 199), None);
    assert_eq!(due(&good, 200), Some(Due::Age));
    assert_eq!(due(&good, -1), Some(Due::Age));
    assert_eq!(due(&Facts { fits_key: false, ..good.clone() }, 0), Some(Due::Key));
    assert_eq!(due(&Facts { signed_by: vec![2], ..good.clone() }, 0), Some(Due::Authority));
    assert_eq!(due(&Facts { groups: vec![], ..good.clone() }, 0), Some(Due::Names));
    assert_eq!(due(&Facts { sans: BTreeSet::from(["x".to_owned()]), ..good }, 0), Some(Due::Names));
    assert!(worn(0, 300, 500));
}

#[test]
fn a_fresh_set_is_complete_private_and_stable() {
    let dir = tempfile::tempdir().unwrap();
    let pki_dir = dir.path().join("pki");
    let first = ensure(&pki_dir, &config(), now()).unwrap();
    assert_eq!(first.written.len(), 2 + 2 * 2 + 2 * Leaf::ALL.len());
    for entry in std::fs::read_dir(&pki_dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
    assert_eq!(std::fs::metadata(&pki_dir).unwrap().permissions().mode() & 0o777, 0o700);
    let second = ensure(&pki_dir, &config(), now()).unwrap();
    assert!(second.written.is_empty(), "{:?}", second.written);
    assert_eq!(second.leaf(Leaf::Admin).cert_pem, first.leaf(Leaf::Admin).cert_pem);
}

#[test]
fn only_what_no_longer_fits_is_issued_anew() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &config(), now()).unwrap();
    let moved = Config { node_ips: vec!["192.0.2.8".parse().unwrap()], ..config() };
    let pki = ensure(dir.path(), &moved, now()).unwrap();
    assert_eq!(pki.written, ["apiserver.key", "apiserver.crt", "kubelet.key", "kubelet.crt"]);
    std::fs::write(dir.path().join("admin.crt"), "torn").unwrap();
    let pki = ensure(dir.path(), &moved, now()).unwrap();
    assert_eq!(pki.written, ["admin.key", "admin.crt"]);
}

#[test]
fn a_year_later_all_leaves_are_new_and_the_authorities_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let old = ensure(dir.path(), &config(), now()).unwrap();
    let later = now() + (24 * 300).hours();
    let new = ensure(dir.path(), &config(), later).unwrap();
    assert_eq!(new.written.len(), 2 * Leaf::ALL.len());
    assert_eq!(new.ca_pem(), old.ca_pem());
    let ages_later = now() + (24 * 365 * 9).hours();
    let renewed = ensure(dir.path(), &config(), ages_later).unwrap();
    assert_ne!(renewed.ca_pem(), old.ca_pem());
    assert_eq!(renewed.authority(Authority::Cluster).key_pem, old.authority(Authority::Cluster).key_pem);
}

#[test]
fn an_authority_without_its_key_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &config(), now()).unwrap();
    std::fs::remove_file(dir.path().join("ca.key")).unwrap();
    let error = ensure(dir.path(), &config(), now()).unwrap_err();
    assert!(error.to_string().contains("its key ca.key is missing"), "{error}");
    std::fs::write(dir.path().join("ca.key"), "junk").unwrap();
    assert!(matches!(ensure(dir.path(), &config(), now()), Err(Error::Unusable { .. })));
}

#[test]
fn a_wrong_name_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let bad = Config { extra_sans: vec!["no name".into()], ..config() };
    let error = ensure(dir.path(), &bad, now()).unwrap_err();
    assert_eq!(error.to_string(), r#""no name" is neither a DNS name nor an IP address"#);
}

fn unix(at: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.as_second().unsigned_abs()))
}

#[test]
fn client_certificates_name_their_users_and_only_under_the_cluster_ca() {
    let dir = tempfile::tempdir().unwrap();
    let pki = ensure(dir.path(), &config(), now()).unwrap();
    let ca = ClientCa::new(&[pki.authority(Authority::Cluster).certificate().unwrap()]).unwrap();
    let peer = |leaf| PeerCertificates::new(vec![pki.leaf(leaf).certificate().unwrap()]);
    let admin = peer(Leaf::Admin);
    let user = ca.authenticate(&admin, unix(now())).unwrap().unwrap();
    assert_eq!((user.name.as_str(), user.groups), ("kubernetes-admin", vec!["system:masters".to_owned()]));
    // The same connection, after the certificate has run out.
    assert_eq!(ca.authenticate(&admin, unix(now() + 9000.hours())).unwrap_err().code, 401);
    assert_eq!(ca.authenticate(&peer(Leaf::FrontProxyClient), unix(now())).unwrap_err().code, 401);
    // A server's certificate is no client's.
    assert_eq!(ca.authenticate(&peer(Leaf::ApiServer), unix(now())).unwrap_err().code, 401);
    assert_eq!(ca.authenticate(&PeerCertificates::default(), unix(now())), Ok(None));
}

#[test]
fn clients_accept_the_server_by_every_name() {
    let dir = tempfile::tempdir().unwrap();
    let pki = ensure(dir.path(), &config(), now()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pki.authority(Authority::Cluster).certificate().unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let leaf = pki.leaf(Leaf::ApiServer).certificate().unwrap();
    let check = |name: &str| {
        use rustls::client::danger::ServerCertVerifier;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&leaf, &[], &name, &[], unix(now()))
    };
    for name in
        ["kubernetes.default.svc.cluster.local", "127.0.0.1", "::1", "192.0.2.7", "10.43.0.1", "api.example"]
    {
        assert!(check(name).is_ok(), "{name}");
    }
    assert!(check("elsewhere.example").is_err());
}

#[test]
fn a_kubeconfig_holds_all_a_client_needs() {
    let dir = tempfile::tempdir().unwrap();
    let pki = ensure(dir.path(), &config(), now()).unwrap();
    let path = dir.path().join("etc/admin.kubeconfig");
    kubeconfig::write_admin(&path, &pki, "tiphys", "https://127.0.0.1:6443").unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("server: \"https://127.0.0.1:6443\"\n")
            && text.contains("current-context: \"tiphys\"\n")
    );
    assert_eq!(text.matches("-data: LS0tLS1CRUdJTi").count(), 3);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}
