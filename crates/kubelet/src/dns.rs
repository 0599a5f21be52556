//! A pod's names and name resolution: host name, `/etc/hosts`, `/etc/resolv.conf`. Pure.

use k8s_openapi::api::core::v1::{HostAlias, Pod};
use tiphys_runtime::model::Dns;

use crate::pod;

/// The longest label of a name, and so the longest host name without a domain.
const HOSTNAME_MAX: usize = 63;
/// The longest host name the kernel takes.
const KERNEL_HOSTNAME_MAX: usize = 64;
/// As many name servers as resolvers read.
const SERVERS_MAX: usize = 3;
/// The most search domains, and the most characters they may have together, blanks included.
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

/// What the cluster and the node say about names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// Addresses of the cluster's DNS; empty when there is none.
    pub(crate) cluster_dns: Vec<String>,
    /// As `cluster.local`.
    pub(crate) domain: String,
    /// The node's own resolver settings.
    pub(crate) host: Dns,
    /// The node's host name.
    pub(crate) node: String,
}

/// Host name of the pod and, where it has a subdomain, its domain.
pub(crate) fn hostname(pod: &Pod, names: &Names) -> (String, String) {
    let spec = pod::spec(pod);
    if let Some(name) = &spec.hostname_override {
        return (name.clone(), String::new());
    }
    if pod::host_network(pod) {
        return (names.node.clone(), String::new());
    }
    let own = spec.hostname.as_deref().filter(|name| !name.is_empty()).unwrap_or(pod::name(pod));
    let mut short: String = own.chars().take(HOSTNAME_MAX).collect();
    short.truncate(short.trim_end_matches(['-', '.']).len());
    let domain = match spec.subdomain.as_deref() {
        Some(sub) if !sub.is_empty() => format!("{sub}.{}.svc.{}", pod::namespace(pod), names.domain),
        _ => String::new(),
    };
    (short, domain)
}

/// The kernel's host name: the short one, or the full one if the pod asks for it.
pub(crate) fn kernel_hostname(pod: &Pod, names: &Names) -> String {
    let (short, domain) = hostname(pod, names);
    match pod::spec(pod).set_hostname_as_fqdn == Some(true) && !domain.is_empty() {
        true => format!("{short}.{domain}"),
        false => short,
    }
}

/// Fails if the pod asks for a host name that the kernel does not take.
pub(crate) fn check_hostname(pod: &Pod, names: &Names) -> Result<(), String> {
    let name = kernel_hostname(pod, names);
    match name.len() {
        0..=KERNEL_HOSTNAME_MAX => Ok(()),
        length => Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long \
             ({KERNEL_HOSTNAME_MAX} characters is the max, {length} characters requested)"
        )),
    }
}

/// Contents of `/etc/hosts`. `node` is the node's own file, which pods in its network see.
pub(crate) fn hosts_file(pod: &Pod, names: &Names, ips: &[String], node: &str) -> String {
    let mut text = String::from("# Kubernetes-managed hosts file");
    if pod::host_network(pod) {
        text.push_str(" (host network).\n");
        text.push_str(node);
    } else {
        text.push_str(
            ".\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
             fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let (short, domain) = hostname(pod, names);
        for ip in ips {
            match domain.is_empty() {
                true => text.push_str(&format!("{ip}\t{short}\n")),
                false => text.push_str(&format!("{ip}\t{short}.{domain}\t{short}\n")),
            }
        }
    }
    aliases(&mut text, pod::spec(pod).host_aliases.as_deref().unwrap_or_default());
    text
}

fn aliases(text: &mut String, aliases: &[HostAlias]) {
    if aliases.is_empty() {
        return;
    }
    text.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        text.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
    }
}

/// Resolver settings of a pod, and what was left out of them, in words.
pub(crate) fn resolver(pod: &Pod, names: &Names) -> (Dns, Vec<String>) {
    let mut dns = wanted(pod, names);
    let mut omitted = Vec::new();
    if dns.servers.len() > SERVERS_MAX {
        dns.servers.truncate(SERVERS_MAX);
        omitted.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            dns.servers.join(" ")
        ));
    }
    let mut chars = 0;
    let fits = |search: &&String| {
        chars += search.len() + 1;
        chars <= SEARCH_CHARS_MAX + 1
    };
    let kept = dns.searches.iter().take(SEARCHES_MAX).take_while(fits).count();
    if kept < dns.searches.len() {
        dns.searches.truncate(kept);
        omitted.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            dns.searches.join(" ")
        ));
    }
    (dns, omitted)
}

fn wanted(pod: &Pod, names: &Names) -> Dns {
    let spec = pod::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !pod::host_network(pod),
        _ => false,
    };
    let mut dns = match policy {
        "None" => Dns::default(),
        _ if cluster && !names.cluster_dns.is_empty() => cluster_first(pod, names),
        _ => names.host.clone(),
    };
    let Some(own) = &spec.dns_config else { return dns };
    extend(&mut dns.servers, own.nameservers.iter().flatten());
    extend(&mut dns.searches, own.searches.iter().flatten());
    for option in own.options.iter().flatten() {
        let name = option.name.clone().unwrap_or_default();
        dns.options.retain(|known| known.split(':').next() != Some(name.as_str()));
        dns.options.push(match &option.value {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name,
        });
    }
    dns
}

fn extend<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

fn cluster_first(pod: &Pod, names: &Names) -> Dns {
    let domain = &names.domain;
    let mut searches =
        vec![format!("{}.svc.{domain}", pod::namespace(pod)), format!("svc.{domain}"), domain.clone()];
    extend(&mut searches, names.host.searches.iter());
    let mut options = names.host.options.clone();
    options.retain(|option| !option.starts_with("ndots:"));
    options.push("ndots:5".into());
    Dns { servers: names.cluster_dns.clone(), searches, options }
}

/// Reads a resolver's configuration file.
pub(crate) fn parse_resolv_conf(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let key = words.next();
        let words = words.map(str::to_owned);
        match key {
            Some("nameserver") => dns.servers.extend(words.take(1)),
            Some("search") => dns.searches = words.filter(|word| word != ".").collect(),
            Some("options") => dns.options = words.collect(),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            cluster_dns: vec!["10.43.0.10".into()],
            domain: "cluster.local".into(),
            host: parse_resolv_conf("nameserver 1.1.1.1\nsearch lan .\noptions ndots:1 rotate\n# x\n"),
            node: "node".into(),
        }
    }

    fn pod(spec: &serde_json::Value) -> Pod {
        let meta = serde_json::json!({"name": "web", "namespace": "shop"});
        serde_json::from_value(serde_json::json!({"metadata": meta, "spec": spec})).unwrap()
    }

    #[test]
    fn policies() {
        let (dns, _) = resolver(&pod(&serde_json::json!({"containers": []})), &names());
        assert_eq!(dns.servers, ["10.43.0.10"]);
        assert_eq!(dns.searches, ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"]);
        assert_eq!(dns.options, ["rotate", "ndots:5"]);
        let (host, _) = resolver(&pod(&serde_json::json!({"containers": [], "hostNetwork": true})), &names());
        assert_eq!(host, names().host);
        let own = serde_json::json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
            "nameservers": ["9.9.9.9"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}});
        let (dns, omitted) = resolver(&pod(&own), &names());
        assert_eq!(
            (dns.servers, dns.options),
            (vec!["9.9.9.9".into()], vec!["ndots:2".into(), "edns0".into()])
        );
        assert!(omitted.is_empty());
    }

    #[test]
    fn too_much_is_left_out_and_told() {
        let searches: Vec<String> = (0..40).map(|n| format!("s{n}.example")).collect();
        let own = serde_json::json!({"containers": [], "dnsConfig": {
            "nameservers": ["1.0.0.1", "1.0.0.2", "1.0.0.3"], "searches": searches}});
        let (dns, omitted) = resolver(&pod(&own), &names());
        assert_eq!((dns.servers.len(), dns.searches.len()), (3, 32));
        let line = "the applied nameserver line is: 10.43.0.10 1.0.0.1 1.0.0.2";
        assert!(omitted[0].ends_with(line), "{omitted:?}");
        assert!(omitted[1].starts_with("Search Line limits were exceeded"), "{omitted:?}");
    }

    #[test]
    fn a_full_name_must_fit_into_the_kernel() {
        let of = |sub: &str| {
            let spec = serde_json::json!({"containers": [], "subdomain": sub, "setHostnameAsFQDN": true});
            check_hostname(&pod(&spec), &names())
        };
        assert_eq!(of("db"), Ok(()));
        let refused = of(&"x".repeat(50)).unwrap_err();
        assert!(refused.ends_with("(64 characters is the max, 77 characters requested)"), "{refused}");
    }

    #[test]
    fn hosts_tell_the_full_name_and_the_aliases() {
        let spec = serde_json::json!({"containers": [], "subdomain": "db", "hostname": "one",
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]});
        let text = hosts_file(&pod(&spec), &names(), &["10.0.0.2".into()], "");
        assert!(text.contains("10.0.0.2\tone.db.shop.svc.cluster.local\tone\n"), "{text}");
        assert!(text.ends_with("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
    }
}
