//! Unix sockets to listen on: how a socket's file comes and goes.
//!
//! The file's owner and group may connect, nobody else. A file that an earlier process has left behind is removed; one
//! that somebody listens on, and one that is no socket, is not. The file is removed when the gateway no longer listens.

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use tokio::net::UnixListener;

/// Owner and group may connect.
const MODE: u32 = 0o660;
/// How long another gateway that begins to listen in the same directory is waited for, and how often it is looked for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The file of a socket; removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have moved it and put another one there.
        if identity(&self.path).ok() == Some(self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Listens at `path`.
///
/// # Errors
/// There is something that must not be removed, or the system refuses.
pub(crate) fn listen(path: &Path, backlog: u32) -> io::Result<(UnixListener, SocketFile)> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Until the socket listens, it looks like one that was left behind.
    let _lock = lock_directory(path)?;
    if let Err(error) = socket.bind(&address) {
        if error.kind() != io::ErrorKind::AddrInUse {
            return Err(error);
        }
        remove_stale(path)?;
        socket.bind(&address)?;
    }
    let file = SocketFile::of(path)?;
    // Nobody can connect before it listens.
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok((UnixListener::from_std(socket.into())?, file))
}

/// Keeps other gateways from looking at sockets in the same directory.
fn lock_directory(path: &Path) -> io::Result<impl Sized> {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent.unwrap_or(Path::new(".")), flags, Mode::empty())?;
    let began = Instant::now();
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(directory),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
            Err(_) if began.elapsed() > LOCK_TIMEOUT => {
                let what = "another process has locked its directory";
                return Err(io::Error::new(io::ErrorKind::WouldBlock, what));
            }
            Err(_) => thread::sleep(LOCK_PAUSE),
        }
    }
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if !found.file_type().is_socket() {
        let what = "there is a file that is no socket; remove it";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Connecting to one whose queue is full must not wait.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener as StdListener, UnixStream};

    fn scratch(name: &str) -> PathBuf {
        let name = format!("sluicegate-unix-{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        dir
    }

    #[tokio::test]
    async fn owner_and_group_may_connect_and_the_file_goes_with_the_listener() {
        let dir = scratch("mode");
        let path = dir.join("http.sock");
        let (listener, file) = listen(&path, 8).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, MODE);
        let _client = UnixStream::connect(&path).unwrap();
        listener.accept().await.unwrap();
        drop(file);
        assert!(fs::symlink_metadata(&path).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced() {
        let dir = scratch("stale");
        let path = dir.join("http.sock");
        drop(StdListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err());
        let (_listener, _file) = listen(&path, 8).unwrap();
        UnixStream::connect(&path).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn what_somebody_uses_and_what_is_no_socket_stays() {
        let dir = scratch("live");
        let refuse = |path: &Path| {
            let before = identity(path).unwrap();
            let error = listen(path, 8).map(drop).unwrap_err();
            assert_eq!(identity(path).unwrap(), before, "{error}");
            error.kind()
        };
        let live = dir.join("live.sock");
        let _live = StdListener::bind(&live).unwrap();
        assert_eq!(refuse(&live), io::ErrorKind::AddrInUse);
        // One whose queue is full.
        let full = dir.join("full.sock");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&full).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let _waiting = UnixStream::connect(&full).unwrap();
        assert_eq!(refuse(&full), io::ErrorKind::AddrInUse);
        // Of another kind.
        let datagram = dir.join("datagram.sock");
        let _datagram = UnixDatagram::bind(&datagram).unwrap();
        assert_eq!(refuse(&datagram), io::ErrorKind::AddrInUse);
        for (name, kind) in [("file", 0), ("folder", 1), ("link", 2)] {
            let path = dir.join(name);
            match kind {
                0 => fs::write(&path, "kept").unwrap(),
                1 => fs::create_dir(&path).unwrap(),
                _ => std::os::unix::fs::symlink("nowhere", &path).unwrap(),
            }
            assert_eq!(refuse(&path), io::ErrorKind::AlreadyExists, "{name}");
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_took_its_place_stays_when_the_listener_goes() {
        let dir = scratch("moved");
        let path = dir.join("http.sock");
        let (_listener, file) = listen(&path, 8).unwrap();
        fs::rename(&path, dir.join("moved")).unwrap();
        fs::write(&path, "another").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"another");
        fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_many_that_start_at_once_one_listens_and_its_socket_stays() {
        let dir = scratch("race");
        let path = dir.join("http.sock");
        for _ in 0..20 {
            drop(StdListener::bind(&path).unwrap());
            let starts: Vec<_> = (0..4)
                .map(|_| {
                    let path = path.clone();
                    tokio::spawn(async move { listen(&path, 8).ok() })
                })
                .collect();
            let mut listening = Vec::new();
            for start in starts {
                listening.extend(start.await.unwrap());
            }
            assert_eq!(listening.len(), 1);
            UnixStream::connect(&path).unwrap();
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
