//! A gateway in a process of its own, on a port chosen by the system. Nearly every end-to-end test starts one: it
//! writes a config, waits for the address that the process prints, and then checks the API, the log and the process's
//! resources. Dropping it kills the process.

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
    /// Lines of standard error so far.
    pub log: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// Path of the binary under test: `SLUICEGATE_BIN`, or the debug build next to the test's own binary.
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

    /// Root directory of the repository.
    pub fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .to_owned()
    }

    /// Path of a component built by `plugins/build`.
    pub fn component(name: &str) -> PathBuf {
        Gateway::root().join(format!("target/plugins/{name}.wasm"))
    }

    /// Serves these sources, or the demo if there are none.
    pub async fn serve(sources: &[&str]) -> Gateway {
        let arguments: Vec<&str> = ["serve", "--listen", "127.0.0.1:0"]
            .iter()
            .chain(sources)
            .copied()
            .collect();
        Gateway::start(&arguments, Stdio::null()).await.0
    }

    /// Serves a config, written to a file of its own. The command line sets `listen` to a free port on loopback.
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

    /// Like [`Gateway::with_config`], but listens where the config says, first of all at a TCP address.
    pub async fn listening_as_configured(config: &str) -> Gateway {
        let file = config_file(config);
        let arguments = ["serve", "--config", file.to_str().unwrap()];
        Gateway::start(&arguments, Stdio::null()).await.0
    }

    /// Like [`Gateway::with_config`], started by a shell that first runs `before`.
    pub async fn with_config_after(before: &str, config: &str) -> Gateway {
        let file = config_file(config);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("{before}; exec \"$0\" \"$@\"")])
            .arg(Gateway::binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(file);
        Gateway::run(shell, Stdio::null()).await.0
    }

    /// Like [`Gateway::with_config`], in a terminal of its own. `child` is the terminal, which closes when it ends; there
    /// is no log.
    pub async fn in_terminal(config: &str) -> Gateway {
        let program = format!(
            "exec '{}' serve --listen 127.0.0.1:0 --config '{}' 2>/dev/null",
            Gateway::binary().display(),
            config_file(config).display()
        );
        let mut terminal = Command::new("script");
        terminal.args(["--quiet", "--command", &program, "/dev/null"]);
        Gateway::run(terminal, Stdio::null()).await.0
    }

    /// Starts the gateway with these arguments; `stdin` may be piped.
    pub async fn start(arguments: &[&str], stdin: Stdio) -> (Gateway, Option<ChildStdin>) {
        let mut command = Command::new(Gateway::binary());
        command.args(arguments);
        Gateway::run(command, stdin).await
    }

    /// State directory shared by the gateways of this test process, instead of the user's home.
    pub fn state() -> &'static Path {
        static STATE: OnceLock<PathBuf> = OnceLock::new();
        STATE.get_or_init(|| scratch("state"))
    }

    /// Starts the gateway by this command.
    pub async fn run(mut command: Command, stdin: Stdio) -> (Gateway, Option<ChildStdin>) {
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
            .expect("the gateway did not print its address in time");
        let first = first
            .unwrap()
            .unwrap_or_else(|| panic!("the gateway ended: {:?}", log.lock().unwrap()));
        let address = first
            .split("://")
            .nth(1)
            .and_then(|rest| rest.split('/').next()?.parse().ok());
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

    /// Process id.
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_raw(
            i32::try_from(self.child.id().expect("it has ended")).unwrap(),
        )
        .unwrap()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Fetches an API path and parses its JSON.
    pub async fn api(&self, path: &str) -> serde_json::Value {
        let (status, _, body) = http_get(self.address, path, &[]).await.unwrap();
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    /// Polls an API path until the answer satisfies `good`; fails with the last answer after a deadline.
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

    /// Waits for a log line that contains `text` and returns it.
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

    /// The log lines so far that contain `text`.
    pub fn logs(&self, text: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        let lines = log.iter().filter(|line| line.contains(text));
        lines.cloned().collect()
    }

    /// Fails the test unless a new viewer of the stream receives parameter sets and a keyframe.
    pub async fn assert_serves(&self, stream: &str) {
        let viewer = within("connect", Nal::connect(self.address, stream)).await;
        let mut viewer = viewer.unwrap();
        let first = within("the header", viewer.next()).await.unwrap();
        assert!(is_header(&cut(&first)));
        let unit = within("a keyframe", viewer.next_unit()).await.unwrap();
        assert!(unit.is_idr());
    }

    /// Number of open file descriptors.
    pub fn files(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id().unwrap());
        std::fs::read_dir(path).unwrap().count()
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        kilobytes.unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Processor time used so far by all threads.
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

/// Creates a directory for this test below the build directory.
pub fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    if nth == 0 {
        remove_old_scratch();
    }
    let dir = Gateway::root().join(format!(
        "target/scratch/{name}-{}-{nth}",
        std::process::id()
    ));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Removes directories of earlier runs; the newest run is kept for inspection.
fn remove_old_scratch() {
    let Ok(entries) = std::fs::read_dir(Gateway::root().join("target/scratch")) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process: Option<u32> = name.rsplit('-').nth(1).and_then(|id| id.parse().ok());
        if process.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
            // Another test process may be removing it at the same time.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
