//! Scenarios: the program itself says where its memory goes: snapshots, their comparison, and the doctor's verdict.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{PATIENCE, post};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};
use sluice_gateway::forensics::folder::snapshots;
use sluice_gateway::forensics::pprof::{Kind, decode};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What the tests make the gateway hold: far above noise, far below the memory broker's limits.
const HELD_MESSAGES: usize = 600;
const MESSAGE_BYTES: usize = 15_000;
const HELD_BYTES: i64 = 9_000_000;

#[tokio::test]
async fn snapshots_show_who_holds_memory() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let mut gateway = Running::start(&["--dev", "--heap-dir", kept.to_str().unwrap()], &[]).await;
    let first = folder.path().join("first.pb.gz");
    std::fs::write(&first, gateway.snapshot("inuse").await).unwrap();
    gateway.hold().await;
    gateway.signal(Signal::SIGUSR2);
    let line = gateway.logged("heap snapshot kept").await;
    let second = PathBuf::from(line["fields"]["path"].as_str().unwrap());
    assert_eq!(snapshots(&kept).unwrap(), std::slice::from_ref(&second));

    let compare = |more: &[&str]| {
        let files = ["heap-diff", text(&first), text(&second)];
        run(&[&files[..], more].concat())
    };
    let grew = compare(&["--fail-above", "1MiB"]).await;
    let table = stdout(&grew);
    assert_eq!(grew.status.code(), Some(1), "{table}");
    assert!(table.contains("ABOVE 1.0 MiB"), "{table}");
    // The path is one of functions, and the one that holds the messages is the first.
    let top = table.lines().nth(1).unwrap();
    assert!(top.contains("sluice_gateway::"), "{table}");
    let within = compare(&["--fail-above", "1GiB", "--kind", "allocs"]).await;
    assert_eq!(within.status.code(), Some(0), "{}", stdout(&within));
}

#[tokio::test]
async fn scheduled_snapshots_are_compared_one_with_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = text(folder.path());
    let flags = ["--dev", "--heap-dir", path, "--heap-every-seconds", "1"];
    let mut gateway = Running::start(&flags, &[]).await;
    for _ in 0..3 {
        gateway.logged("heap snapshot kept").await;
    }
    drop(gateway);
    let compared = run(&["heap-diff", path, "--fail-above", "100MiB"]).await;
    let table = stdout(&compared);
    assert_eq!(compared.status.code(), Some(0), "{table}");
    assert!(table.matches("within 100.0 MiB").count() >= 3, "{table}");
    assert!(table.contains("first and last"), "{table}");
}

#[tokio::test]
async fn files_that_are_no_snapshots_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad");
    std::fs::write(&bad, b"\x1f\x8b\x08cut").unwrap();
    for (arguments, expected) in [
        (&[text(&bad), text(&bad)][..], "is not a heap snapshot"),
        (&[text(&bad), "/nowhere"][..], "is not a heap snapshot"),
        (&["/nowhere", text(&bad)][..], "cannot read /nowhere"),
        (&[text(&bad)][..], "name a second one"),
        (&[text(folder.path())][..], "holds 0 snapshots"),
        (&["/nowhere"][..], "cannot list /nowhere"),
    ] {
        let output = run(&[&["heap-diff"], arguments].concat()).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn the_doctor_tells_a_leak_from_rest() {
    let gateway = Running::start(&["--dev"], &[]).await;
    let url = format!("http://{}", gateway.admin);
    let calm = run(&["doctor", "--url", &url, "--seconds", "1"]).await;
    assert_eq!(calm.status.code(), Some(0), "{}", stdout(&calm));
    assert!(stdout(&calm).contains("Healthy"), "{}", stdout(&calm));
    // Messages that the memory broker holds grow without connections for as long as the doctor looks.
    let sick = tokio::select! {
        output = run(&["doctor", "--url", &url, "--seconds", "2"]) => output,
        () = async { loop { gateway.hold().await } } => panic!("never ends"),
    };
    let report = stdout(&sick);
    assert_eq!(sick.status.code(), Some(1), "{report}");
    assert!(report.contains("LEAK: live memory grew"), "{report}");
    assert!(report.contains("sluice_gateway::"), "{report}");
}

#[tokio::test]
async fn debug_paths_need_the_admin_key_and_probes_do_not() {
    let keys = tempfile::tempdir().unwrap();
    for name in ["admin", "publish", "resume"] {
        std::fs::write(
            keys.path().join(name),
            format!("the {name} key of the fleet\n"),
        )
        .unwrap();
    }
    let (fleet, hmac) = (text(keys.path()), keys.path().join("resume"));
    let flags = [
        "--broker",
        "memory",
        "--fleet-dir",
        fleet,
        "--jwt-hmac-file",
        text(&hmac),
    ];
    let gateway = Running::start(&flags, &[]).await;
    let key = "the admin key of the fleet";
    for path in [
        "/debug/heap",
        "/debug/heap?kind=allocs",
        "/debug/tasks",
        "/debug/other",
    ] {
        assert_eq!(gateway.get(path, None).await.0, 401, "{path}");
        assert_eq!(gateway.get(path, Some("wrong")).await.0, 401, "{path}");
    }
    assert_eq!(gateway.get("/debug/tasks", Some(key)).await.0, 200);
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(gateway.get(path, None).await.0, 200, "{path}");
    }
    let url = format!("http://{}/", gateway.admin);
    let closed = run(&["doctor", "--url", &url, "--seconds", "1"]).await;
    assert_eq!(closed.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&closed.stderr).contains("--key-file"));
    let file = keys.path().join("admin");
    let open = [
        "doctor",
        "--url",
        &url,
        "--seconds",
        "1",
        "--key-file",
        text(&file),
    ];
    let open = run(&open).await;
    assert_eq!(open.status.code(), Some(0), "{}", stdout(&open));
}

#[tokio::test]
async fn both_kinds_and_the_figures_are_served() {
    let gateway = Running::start(&["--dev"], &[]).await;
    gateway.hold().await;
    let live = decode(&gateway.snapshot("inuse").await).unwrap();
    let all = decode(&gateway.snapshot("allocs").await).unwrap();
    assert_eq!((live.kind, all.kind), (Kind::Inuse, Kind::Allocs));
    assert!(live.samples.iter().all(|s| s.counts.inuse_bytes > 0));
    assert!(all.samples.len() > live.samples.len());
    let asked: i64 = all.samples.iter().map(|s| s.counts.alloc_bytes).sum();
    let held: i64 = all.samples.iter().map(|s| s.counts.inuse_bytes).sum();
    assert!(asked > held && held > HELD_BYTES / 2);
    assert_eq!(gateway.get("/debug/heap?kind=cpu", None).await.0, 400);
    let tasks: Value = serde_json::from_slice(&gateway.get("/debug/tasks", None).await.1).unwrap();
    assert!(tasks["alive_tasks"].as_u64().unwrap() > 3, "{tasks}");
    assert_eq!(tasks["kinds"]["connections"], 0, "{tasks}");
    let metrics = String::from_utf8(gateway.get("/metrics", None).await.1).unwrap();
    let figure = |name: &str| -> f64 {
        let line = metrics
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}")).parse().unwrap()
    };
    let allocated = figure("sluice_heap_allocated_bytes");
    assert!(allocated > HELD_BYTES as f64);
    assert!(figure("sluice_heap_resident_bytes") > allocated);
    assert!(figure("sluice_heap_allocated_total_bytes") > allocated);
}

#[tokio::test]
async fn without_a_profile_everything_else_works() {
    let gateway = Running::start(&["--dev"], &[("_RJEM_MALLOC_CONF", "prof:false")]).await;
    let (status, body) = gateway.get("/debug/heap", None).await;
    assert_eq!(status, 404);
    assert!(String::from_utf8_lossy(&body).contains("keeps no heap profile"));
    let url = format!("http://{}", gateway.admin);
    let report = run(&["doctor", "--url", &url, "--seconds", "1"]).await;
    assert_eq!(report.status.code(), Some(0), "{}", stdout(&report));
}

/// The built program, serving on free ports.
struct Running {
    child: Child,
    log: UnboundedReceiver<Value>,
    admin: SocketAddr,
    publish: SocketAddr,
    channels: AtomicUsize,
}

impl Running {
    async fn start(flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = program(flags);
        for port in ["--client-addr", "--publish-addr", "--admin-addr"] {
            command.args([port, "127.0.0.1:0"]);
        }
        command
            .args(["--log-format", "json"])
            .envs(environment.iter().copied())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, log) = unbounded_channel();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = sender.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let mut running = Self {
            child,
            log,
            admin: nowhere,
            publish: nowhere,
            channels: AtomicUsize::new(0),
        };
        let listening = running.logged("listening").await;
        let address = |name: &str| listening["fields"][name].as_str().unwrap().parse().unwrap();
        (running.admin, running.publish) = (address("admin"), address("publish"));
        running.logged("ready").await;
        running
    }

    /// Waits for a log line.
    async fn logged(&mut self, message: &str) -> Value {
        let mut before = Vec::new();
        let found = async {
            while let Some(line) = self.log.recv().await {
                if line["fields"]["message"] == message {
                    return line;
                }
                before.push(line);
            }
            panic!("ended without {message:?}: {before:?}");
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("never logged: {message}"))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    async fn get(&self, path: &str, key: Option<&str>) -> (u16, Vec<u8>) {
        let url = format!("http://{}{path}", self.admin);
        let mut request = reqwest::Client::new().request(Method::GET, url);
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.bytes().await.unwrap().to_vec())
    }

    async fn snapshot(&self, kind: &str) -> Vec<u8> {
        let (status, body) = self.get(&format!("/debug/heap?kind={kind}"), None).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        body
    }

    /// Publishes what the memory broker then holds, each time in a channel of its own.
    async fn hold(&self) {
        let channel = format!("held-{}", self.channels.fetch_add(1, Ordering::Relaxed));
        let data = json!({"channel": channel, "data": "x".repeat(MESSAGE_BYTES)});
        let batch = json!({"messages": vec![data; HELD_MESSAGES / 10]});
        for _ in 0..10 {
            let (status, answer) = post(self.publish, "/v1/publish/batch", &batch).await;
            assert_eq!(status, 200, "{answer}");
        }
    }
}

fn program(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-gateway"));
    command.args(flags).kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Runs a command to its end; what it needs is taken over at once, so that callers may pass what they have just made.
fn run(arguments: &[&str]) -> impl Future<Output = Output> + use<> {
    let mut command = program(arguments);
    async move { command.output().await.unwrap() }
}

fn stdout(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    format!("{}{error}", String::from_utf8_lossy(&output.stdout))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
