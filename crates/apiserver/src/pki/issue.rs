//! Makes keys and certificates as the plan asks, and keeps what is still good.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::files::{self, Lasting, New};
use super::plan::{self, Facts, Spec, Usage};
use super::{Authority, Config, Error, Leaf, Pair, Pki, ServiceAccountKey};

/// An authority ready to sign.
struct Signer {
    issuer: Issuer<'static, KeyPair>,
    key_id: Vec<u8>,
    pair: Pair,
}

/// Collects what is to be written while the set is completed.
struct Workshop<'a> {
    dir: &'a Path,
    now: i64,
    new: Vec<New>,
}

pub(super) fn ensure(dir: &Path, config: &Config, now: Timestamp) -> Result<Pki, Error> {
    let mut shop = Workshop { dir, now: now.as_second(), new: Vec::new() };
    let service_account = shop.service_account()?;
    let cluster = shop.authority(Authority::Cluster, "kubernetes")?;
    let front_proxy = shop.authority(Authority::FrontProxy, "front-proxy-ca")?;
    let mut leaves = BTreeMap::new();
    for leaf in Leaf::ALL {
        let spec = plan::spec(leaf, config);
        let signer = match spec.authority {
            Authority::Cluster => &cluster,
            Authority::FrontProxy => &front_proxy,
        };
        leaves.insert(leaf, shop.leaf(leaf, &spec, signer)?);
    }
    let authorities =
        BTreeMap::from([(Authority::Cluster, cluster.pair), (Authority::FrontProxy, front_proxy.pair)]);
    files::write_all(dir, &shop.new)?;
    let written = shop.new.into_iter().map(|new| new.name).collect();
    Ok(Pki { dir: dir.to_owned(), service_account, authorities, leaves, written })
}

impl Workshop<'_> {
    fn read(&self, name: &str) -> Result<Option<String>, Error> {
        files::read(&self.dir.join(name))
    }

    fn write(&mut self, name: impl Into<String>, content: &str, lasting: Lasting) {
        self.new.push(New { name: name.into(), content: content.to_owned(), lasting });
    }

    fn unusable(&self, name: &str, why: &dyn std::fmt::Display) -> Error {
        Error::Unusable { path: self.dir.join(name), why: why.to_string() }
    }

    fn service_account(&mut self) -> Result<ServiceAccountKey, Error> {
        let key = match self.read("sa.key")? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|why| self.unusable("sa.key", &why))?,
            None => {
                let key = new_key("sa.key")?;
                self.write("sa.key", &key.serialize_pem(), Lasting::Synced);
                key
            }
        };
        let public_pem = key.public_key_pem();
        if self.read("sa.pub")?.as_ref() != Some(&public_pem) {
            self.write("sa.pub", &public_pem, Lasting::Replaceable);
        }
        Ok(ServiceAccountKey { private_pem: key.serialize_pem(), public_pem })
    }

    fn authority(&mut self, authority: Authority, name: &str) -> Result<Signer, Error> {
        let stem = authority.stem();
        let (crt, key_file) = (format!("{stem}.crt"), format!("{stem}.key"));
        let (cert, key) = (self.read(&crt)?, self.read(&key_file)?);
        if cert.is_some() && key.is_none() {
            return Err(self.unusable(&crt, &format!("its key {key_file} is missing")));
        }
        let key = match key {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|why| self.unusable(&key_file, &why))?,
            None => {
                // The key first: a certificate is never without its key, however a start ends.
                let key = new_key(stem)?;
                self.write(key_file, &key.serialize_pem(), Lasting::Synced);
                key
            }
        };
        let cert_pem = match cert {
            Some(pem) if !self.authority_worn(&crt, &pem, &key)? => pem,
            _ => {
                let pem = self_signed(stem, name, &key, self.now)?;
                self.write(&crt, &pem, Lasting::Synced);
                pem
            }
        };
        let der = der(&cert_pem).ok_or_else(|| self.unusable(&crt, &"no certificate"))?;
        let key_id = subject_key_id(&der).ok_or_else(|| self.unusable(&crt, &"no subject key identifier"))?;
        let key_pem = key.serialize_pem();
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|why| self.unusable(&crt, &why))?;
        Ok(Signer { issuer, key_id, pair: Pair { cert_pem, key_pem } })
    }

    fn authority_worn(&self, crt: &str, pem: &str, key: &KeyPair) -> Result<bool, Error> {
        let facts = der(pem).and_then(|der| facts(&der, key));
        let facts = facts.ok_or_else(|| self.unusable(crt, &"no certificate can be read from it"))?;
        if !facts.fits_key {
            return Err(self.unusable(crt, &"it does not belong to the key beside it"));
        }
        Ok(plan::worn(facts.not_before, facts.not_after, self.now))
    }

    fn leaf(&mut self, leaf: Leaf, spec: &Spec, signer: &Signer) -> Result<Pair, Error> {
        let stem = leaf.stem();
        let (crt, key_file) = (format!("{stem}.crt"), format!("{stem}.key"));
        let at_hand = self.read(&crt)?.zip(self.read(&key_file)?);
        let facts =
            at_hand.as_ref().and_then(|(cert, key)| facts(&der(cert)?, &KeyPair::from_pem(key).ok()?));
        let due = plan::due(spec, facts.as_ref(), &signer.key_id, self.now);
        if let (None, Some((cert_pem, key_pem))) = (due, at_hand) {
            return Ok(Pair { cert_pem, key_pem });
        }
        tracing::debug!(certificate = stem, ?due, "issue");
        let pair = issue(stem, spec, signer, self.now)?;
        self.write(key_file, &pair.key_pem, Lasting::Replaceable);
        self.write(crt, &pair.cert_pem, Lasting::Replaceable);
        Ok(pair)
    }
}

fn new_key(what: &'static str) -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(|source| Error::Issue { what, source })
}

fn self_signed(what: &'static str, name: &str, key: &KeyPair, now: i64) -> Result<String, Error> {
    let mut params = params(name, None, now, plan::AUTHORITY_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(key).map_err(|source| Error::Issue { what, source })?;
    Ok(certificate.pem())
}

fn issue(what: &'static str, spec: &Spec, signer: &Signer, now: i64) -> Result<Pair, Error> {
    let key = new_key(what)?;
    let mut params = params(&spec.name, spec.group, now, plan::LEAF_LIFE);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![match spec.usage {
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names = spec.sans.iter().map(|san| san_type(san)).collect::<Result<_, _>>()?;
    let certificate =
        params.signed_by(&key, &signer.issuer).map_err(|source| Error::Issue { what, source })?;
    Ok(Pair { cert_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

fn params(name: &str, group: Option<&str>, now: i64, life: i64) -> CertificateParams {
    let mut subject = DistinguishedName::new();
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    subject.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.serial_number = Some(SerialNumber::from_slice(uuid::Uuid::new_v4().as_bytes()));
    // The default's year 1975 to 4096 stands only where the clock is outside of what a date can say.
    if let (Ok(from), Ok(to)) =
        (ASN1Time::from_timestamp(now - plan::BACKDATED), ASN1Time::from_timestamp(now + life))
    {
        params.not_before = from.to_datetime();
        params.not_after = to.to_datetime();
    }
    params
}

fn san_type(san: &str) -> Result<SanType, Error> {
    if let Ok(address) = san.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let dns = rustls::pki_types::DnsName::try_from(san.strip_prefix("*.").unwrap_or(san));
    match (dns, san.to_owned().try_into()) {
        (Ok(_), Ok(name)) => Ok(SanType::DnsName(name)),
        _ => Err(Error::Name(san.to_owned())),
    }
}

fn der(pem: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}

fn subject_key_id(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

/// Reads what a certificate says; `None` when it cannot be read.
fn facts(der: &[u8], key: &KeyPair) -> Option<Facts> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let signed_by = certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
        _ => None,
    });
    let names = certificate.subject_alternative_name().ok()?;
    let sans = names.iter().flat_map(|names| &names.value.general_names).filter_map(san_text).collect();
    Some(Facts {
        name: subject.iter_common_name().next()?.as_str().ok()?.to_owned(),
        groups: subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect(),
        sans,
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        signed_by: signed_by.unwrap_or_default(),
        fits_key: certificate.public_key().subject_public_key.data == key.der_bytes(),
    })
}

fn san_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
