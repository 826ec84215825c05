//! nginx and Caddy as reverse proxies in front of a gateway, with the configurations in `examples/proxies`.

use crate::{Gateway, client::request, scratch, within};
use std::{net::SocketAddr, path::Path, process::Stdio};
use tokio::process::{Child, Command};

/// A running proxy; killed when dropped.
pub struct Proxy {
    pub address: SocketAddr,
    _child: Child,
}

impl Proxy {
    /// Starts a program that listens on this address.
    async fn run(address: SocketAddr, mut command: Command) -> Proxy {
        let child = command.stderr(Stdio::null()).kill_on_drop(true).spawn();
        let child = child.expect("the tests need nginx and caddy");
        within("the proxy listens", async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        Proxy {
            address,
            _child: child,
        }
    }

    /// nginx with these blocks in its `http` section.
    pub async fn nginx(address: SocketAddr, blocks: &str) -> Proxy {
        let dir = scratch("proxy");
        let text = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\naccess_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;\n\
             fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n{blocks}\n}}\n",
            dir = dir.display()
        );
        std::fs::write(dir.join("nginx.conf"), text).unwrap();
        // `/usr/sbin` is not in every user's PATH.
        let installed = Some("/usr/sbin/nginx").filter(|path| Path::new(path).exists());
        let mut command = Command::new(installed.unwrap_or("nginx"));
        command.args(["-p", dir.to_str().unwrap(), "-c", "nginx.conf"]);
        Proxy::run(address, command).await
    }

    /// nginx with an example, without TLS, in front of `upstream`: an address, or `unix:PATH`.
    pub async fn nginx_of(example: &str, upstream: &str) -> Proxy {
        let address = free_address();
        let listen = format!("listen {address};");
        let block: String = self::example(example)
            .replace("listen 443 ssl;", &listen)
            .replace("127.0.0.1:8080", upstream)
            .lines()
            .filter(|line| !line.trim_start().starts_with("ssl_certificate"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert!(
            block.contains(&listen) && block.contains(&format!("http://{upstream};")),
            "{block}"
        );
        Proxy::nginx(address, &block).await
    }

    /// Caddy with an example for the site `name`, without TLS, in front of `upstream`: an address, or `unix/PATH`.
    pub async fn caddy_of(example: &str, name: &str, upstream: &str) -> Proxy {
        let address = free_address();
        let site = format!("http://{name}:{} {{\n\tbind 127.0.0.1", address.port());
        let block = self::example(example)
            .replace(&format!("{name} {{"), &site)
            .replace("127.0.0.1:8080", upstream);
        assert!(block.contains(&site) && block.contains(upstream), "{block}");
        let dir = scratch("caddy");
        let file = dir.join("Caddyfile");
        std::fs::write(&file, format!("{{\n\tadmin off\n}}\n{block}")).unwrap();
        let mut command = Command::new("caddy");
        command
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(&file)
            .env("XDG_DATA_HOME", &dir)
            .env("XDG_CONFIG_HOME", &dir);
        Proxy::run(address, command).await
    }

    /// Sends a request; returns status, head and body.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (u16, String, String) {
        let asked = request(self.address, method, path, headers);
        let (status, head, body) = within(path, asked).await.unwrap();
        (status, head, String::from_utf8_lossy(&body).into_owned())
    }
}

/// An example from the documentation.
pub fn example(name: &str) -> String {
    std::fs::read_to_string(Gateway::root().join("examples/proxies").join(name)).unwrap()
}

/// What an example for a proxy says that the gateway needs in its config.
pub fn config_in(example: &str) -> String {
    let text = self::example(example);
    let lines = text.lines().filter_map(|line| line.strip_prefix("#     "));
    let config: String = lines.map(|line| format!("{line}\n")).collect();
    assert!(config.starts_with("[server]\n"), "{config}");
    config
}

/// A loopback address on which nothing listens.
pub fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
