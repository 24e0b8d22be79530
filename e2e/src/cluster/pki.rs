//! Effects (keys, files): a fresh certificate authority per cluster, what it signs, and the kubeconfigs made of that.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use super::layout::{API_SERVICE, Layout, MACHINE, NODES, api_url};

/// The name of metrics-server's certificate, and the name under which the API server calls it.
pub const METRICS_SERVER: &str = "metrics-server";

/// The name by which aggregated APIs know the API server.
pub const FRONT_PROXY: &str = "front-proxy";

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, both PEM.
struct Pair {
    certificate: String,
    key: String,
}

/// Makes all keys, certificates and kubeconfigs of a cluster.
pub fn create(layout: &Layout) -> Result<()> {
    let folder = layout.data().join("pki");
    std::fs::create_dir_all(&folder)?;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
    let authority = Authority::create().context("making the cluster's certificate authority")?;
    write(&layout.pki("ca.crt"), &authority.pem)?;
    write(
        &layout.pki("ca.key"),
        &authority.issuer.key().serialize_pem(),
    )?;
    let accounts = KeyPair::generate()?;
    write(&layout.pki("accounts.key"), &accounts.serialize_pem())?;
    write(&layout.pki("accounts.pub"), &accounts.public_key_pem())?;

    let api_names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        &MACHINE.to_string(),
        &API_SERVICE.to_string(),
    ];
    authority.save(layout, "apiserver", ("kube-apiserver", None), &api_names)?;
    authority.save(
        layout,
        "apiserver-kubelet",
        ("kube-apiserver-kubelet", Some("system:masters")),
        &[],
    )?;
    authority.save(layout, FRONT_PROXY, (FRONT_PROXY, None), &[])?;
    let metrics = [
        METRICS_SERVER,
        "metrics-server.kube-system",
        "metrics-server.kube-system.svc",
    ];
    authority.save(layout, METRICS_SERVER, (METRICS_SERVER, None), &metrics)?;

    let users = [
        ("admin", "admin", Some("system:masters")),
        ("controller-manager", "system:kube-controller-manager", None),
        ("scheduler", "system:kube-scheduler", None),
        ("proxy", "system:kube-proxy", None),
    ];
    for (name, user, group) in users {
        let pair = authority.save(layout, name, (user, group), &[])?;
        save_kubeconfig(layout, name, &authority.pem, &pair)?;
    }
    for node in NODES {
        let user = format!("system:node:{}", node.name());
        let names = [node.name(), node.address().to_string()];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let pair = authority.save(layout, &node.name(), (&user, Some("system:nodes")), &names)?;
        save_kubeconfig(layout, &node.name(), &authority.pem, &pair)?;
    }
    Ok(())
}

impl Authority {
    fn create() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "sluice-local");
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// Signs a certificate for (user, group), valid as client and as server of `names`, and writes it down.
    fn save(
        &self,
        layout: &Layout,
        file: &str,
        (user, group): (&str, Option<&str>),
        names: &[&str],
    ) -> Result<Pair> {
        let pair = self
            .sign(user, group, names)
            .with_context(|| format!("signing the certificate of {user}"))?;
        write(&layout.pki(&format!("{file}.crt")), &pair.certificate)?;
        write(&layout.pki(&format!("{file}.key")), &pair.key)?;
        Ok(pair)
    }

    fn sign(&self, user: &str, group: Option<&str>, names: &[&str]) -> Result<Pair> {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok(Pair {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn save_kubeconfig(layout: &Layout, name: &str, authority: &str, pair: &Pair) -> Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "sluice", "cluster": {
            "server": api_url(), "certificate-authority-data": STANDARD.encode(authority) } }],
        "users": [{ "name": name, "user": {
            "client-certificate-data": STANDARD.encode(&pair.certificate), "client-key-data": STANDARD.encode(&pair.key) } }],
        "contexts": [{ "name": "sluice", "context": { "cluster": "sluice", "user": name } }],
        "current-context": "sluice",
    });
    write(&layout.kubeconfig(name), &serde_yaml::to_string(&config)?)
}

/// Writes a file that only its owner can read.
fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn everything_a_cluster_needs_is_there_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        create(&layout).unwrap();
        let config = kube::config::Kubeconfig::read_from(layout.kubeconfig("admin")).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("sluice"));
        assert_eq!(
            config.clusters[0]
                .cluster
                .as_ref()
                .unwrap()
                .server
                .as_deref(),
            Some("https://10.200.0.1:6443")
        );
        for name in ["apiserver", "front-proxy", "n1", "n3", "metrics-server"] {
            let key = std::fs::metadata(layout.pki(&format!("{name}.key"))).unwrap();
            assert_eq!(key.permissions().mode() & 0o077, 0);
        }
    }
}
