//! Pure: the command lines of etcd, API server, controller manager and scheduler.

use super::layout::{
    API_PORT, ETCD_PEER_PORT, ETCD_PORT, Layout, MACHINE, POD_NETWORK, SERVICE_NETWORK,
};
use super::pki::FRONT_PROXY;

/// etcd, alone and without syncing to disk: this cluster never outlives a power cut.
pub fn etcd(layout: &Layout) -> Vec<String> {
    let clients = format!("http://127.0.0.1:{ETCD_PORT}");
    let peers = format!("http://127.0.0.1:{ETCD_PEER_PORT}");
    vec![
        format!("--data-dir={}", layout.etcd().display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
        "--unsafe-no-fsync".into(),
        // Milliseconds. Alone, it only waits for itself to become leader.
        "--heartbeat-interval=20".into(),
        "--election-timeout=200".into(),
        "--log-level=warn".into(),
    ]
}

/// The API server, on the bridge's address only.
pub fn apiserver(layout: &Layout) -> Vec<String> {
    let pki = |file: &str| layout.pki(file).display().to_string();
    vec![
        format!("--etcd-servers=http://127.0.0.1:{ETCD_PORT}"),
        format!("--bind-address={MACHINE}"),
        format!("--advertise-address={MACHINE}"),
        format!("--secure-port={API_PORT}"),
        format!("--tls-cert-file={}", pki("apiserver.crt")),
        format!("--tls-private-key-file={}", pki("apiserver.key")),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--service-account-key-file={}", pki("accounts.pub")),
        format!("--service-account-signing-key-file={}", pki("accounts.key")),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-cluster-ip-range={SERVICE_NETWORK}"),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        // Node names are in nobody's DNS: `kubectl logs`, `exec` and `top` go by address.
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--kubelet-certificate-authority={}", pki("ca.crt")),
        format!(
            "--kubelet-client-certificate={}",
            pki("apiserver-kubelet.crt")
        ),
        format!("--kubelet-client-key={}", pki("apiserver-kubelet.key")),
        // One authority signs users and the proxy, so the proxy is told apart by its name.
        format!("--requestheader-client-ca-file={}", pki("ca.crt")),
        format!("--requestheader-allowed-names={FRONT_PROXY}"),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        format!(
            "--proxy-client-cert-file={}",
            pki(&format!("{FRONT_PROXY}.crt"))
        ),
        format!(
            "--proxy-client-key-file={}",
            pki(&format!("{FRONT_PROXY}.key"))
        ),
        // Service addresses exist on nodes only; aggregated APIs are reached at their pods.
        "--enable-aggregator-routing=true".into(),
        "--profiling=false".into(),
    ]
}

/// The controller manager. One of it, so no election; every grace period is the default one.
pub fn controller_manager(layout: &Layout) -> Vec<String> {
    let pki = |file: &str| layout.pki(file).display().to_string();
    vec![
        format!(
            "--kubeconfig={}",
            layout.kubeconfig("controller-manager").display()
        ),
        format!("--bind-address={MACHINE}"),
        "--leader-elect=false".into(),
        "--use-service-account-credentials=true".into(),
        format!("--service-account-private-key-file={}", pki("accounts.key")),
        format!("--root-ca-file={}", pki("ca.crt")),
        format!("--cluster-signing-cert-file={}", pki("ca.crt")),
        format!("--cluster-signing-key-file={}", pki("ca.key")),
        format!("--cluster-cidr={POD_NETWORK}"),
        // Each controller fetches an account of its own at the start; with the default of 20 per second that takes 4 s.
        "--kube-api-qps=100".into(),
        "--kube-api-burst=200".into(),
        // Pod networks follow the nodes' numbers, not the order in which they register.
        "--allocate-node-cidrs=false".into(),
        // It makes this folder, and the usual one is the machine's.
        format!(
            "--flex-volume-plugin-dir={}",
            layout.data().join("etcd/volumeplugins").display()
        ),
        "--profiling=false".into(),
    ]
}

/// The scheduler.
pub fn scheduler(layout: &Layout) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", layout.kubeconfig("scheduler").display()),
        format!("--bind-address={MACHINE}"),
        "--leader-elect=false".into(),
        "--profiling=false".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_listens_beyond_the_bridge_and_loopback() {
        let layout = Layout::new("/data".into());
        for arguments in [
            apiserver(&layout),
            controller_manager(&layout),
            scheduler(&layout),
        ] {
            assert!(arguments.contains(&"--bind-address=10.200.0.1".to_owned()));
        }
        assert!(
            etcd(&layout)
                .iter()
                .filter(|a| a.contains("listen"))
                .all(|a| a.contains("127.0.0.1"))
        );
    }
}
