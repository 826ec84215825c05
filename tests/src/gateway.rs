//! A gateway as a process of its own, on a port from the system.

use crate::{Nal, PATIENCE, client::is_header, command::config_file, http_get, media::cut, within};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
};

/// A running gateway; killed when dropped.
pub struct Gateway {
    pub address: SocketAddr,
    pub child: Child,
    /// Standard error so far, line by line.
    pub log: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// The binary under test: `SLUICEGATE_BIN`, or the debug build beside this test's own binary.
    pub fn binary() -> PathBuf {
        if let Some(path) = std::env::var_os("SLUICEGATE_BIN") {
            return path.into();
        }
        let own = std::env::current_exe().unwrap();
        let path = own.parent().unwrap().parent().unwrap().join("sluicegate");
        assert!(
            path.is_file(),
            "build the gateway first: cargo build -p sluicegate"
        );
        path
    }

    /// The repository's top.
    pub fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .to_owned()
    }

    /// A component that `plugins/build` made.
    pub fn component(name: &str) -> PathBuf {
        Gateway::root().join(format!("target/plugins/{name}.wasm"))
    }

    /// Serves the sources named (or the demo, without any).
    pub async fn serve(sources: &[&str]) -> Gateway {
        let arguments: Vec<&str> = ["serve", "--listen", "127.0.0.1:0"]
            .iter()
            .chain(sources)
            .copied()
            .collect();
        Gateway::start(&arguments, Stdio::null()).await.0
    }

    /// Serves a config, written to a file of its own. `listen` is set to a free port on loopback by the command line.
    pub async fn with_config(config: &str) -> Gateway {
        let file = config_file(config);
        Gateway::start(
            &[
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--config",
                file.to_str().unwrap(),
            ],
            Stdio::null(),
        )
        .await
        .0
    }

    /// As [`Gateway::with_config`], by a shell that does `before` first.
    pub async fn with_config_behind(before: &str, config: &str) -> Gateway {
        let file = config_file(config);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("{before}; exec \"$0\" \"$@\"")])
            .arg(Gateway::binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(file);
        Gateway::run(shell, Stdio::null()).await.0
    }

    /// Starts it with these arguments; `stdin` may be piped.
    pub async fn start(arguments: &[&str], stdin: Stdio) -> (Gateway, Option<ChildStdin>) {
        let mut command = Command::new(Gateway::binary());
        command.args(arguments);
        Gateway::run(command, stdin).await
    }

    /// Where the gateways of this test process keep what outlives them, instead of at home.
    pub fn state() -> &'static Path {
        static STATE: OnceLock<PathBuf> = OnceLock::new();
        STATE.get_or_init(|| scratch("state"))
    }

    async fn run(mut command: Command, stdin: Stdio) -> (Gateway, Option<ChildStdin>) {
        let mut child = command
            .env("XDG_STATE_HOME", Gateway::state())
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (errors, kept) = (child.stderr.take().unwrap(), log.clone());
        tokio::spawn(async move {
            let mut lines = BufReader::new(errors).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().unwrap().push(line);
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .expect("the gateway says nothing");
        let first = first
            .unwrap()
            .unwrap_or_else(|| panic!("the gateway ended: {:?}", log.lock().unwrap()));
        let address = first
            .split("://")
            .nth(1)
            .and_then(|rest| rest.trim_end_matches('/').parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {first:?}"));
        let stdin = child.stdin.take();
        (
            Gateway {
                address,
                child,
                log,
            },
            stdin,
        )
    }

    /// The process id.
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_raw(
            i32::try_from(self.child.id().expect("it has ended")).unwrap(),
        )
        .unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// The JSON at an API path.
    pub async fn api(&self, path: &str) -> serde_json::Value {
        let (status, _, body) = http_get(self.address, path, &[]).await.unwrap();
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    /// Asks an API path until the answer satisfies `good`; fails with the last answer after a deadline.
    pub async fn api_until(
        &self,
        path: &str,
        what: &str,
        good: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let began = Instant::now();
        loop {
            let value = self.api(path).await;
            if good(&value) {
                return value;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{what}: still {value:#} after {PATIENCE:?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Whether a line of the log contains `text`; waits for it.
    pub async fn logged(&self, text: &str) -> String {
        let began = Instant::now();
        loop {
            if let Some(line) = self
                .log
                .lock()
                .unwrap()
                .iter()
                .find(|line| line.contains(text))
            {
                return line.clone();
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{text:?} is not in the log: {:#?}",
                self.log.lock().unwrap()
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Whether a new viewer of the stream gets parameter sets and a keyframe; fails the test if not.
    pub async fn serves(&self, stream: &str) {
        let viewer = within("connect", Nal::connect(self.address, stream)).await;
        let mut viewer = viewer.unwrap();
        let first = within("the header", viewer.next()).await.unwrap();
        assert!(is_header(&cut(&first)));
        let unit = within("a keyframe", viewer.next_unit()).await.unwrap();
        assert!(unit.is_idr());
    }

    /// Files it has open.
    pub fn files(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id().unwrap());
        std::fs::read_dir(path).unwrap().count()
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        kilobytes.unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Processor time used so far, of all threads.
    pub fn cpu(&self) -> std::time::Duration {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.child.id().unwrap())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        std::time::Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }
}

/// A new folder under the build's own, for this test.
pub fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    if nth == 0 {
        forget_old_scratch();
    }
    let dir = Gateway::root().join(format!(
        "target/scratch/{name}-{}-{nth}",
        std::process::id()
    ));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Removes what earlier runs left; the newest run's stays for who wants to look.
fn forget_old_scratch() {
    let Ok(entries) = std::fs::read_dir(Gateway::root().join("target/scratch")) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process: Option<u32> = name.rsplit('-').nth(1).and_then(|id| id.parse().ok());
        if process.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
            // Another test's process may be at it too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
