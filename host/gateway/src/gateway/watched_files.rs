//! Reloads the config, and the components, with `watch = true` whose files have changed.
//!
//! Files are looked at once a second. A change counts once the file has stayed as it is for a second, so that one that
//! is being written is not read halfway; whether its content has changed at all is found out by the reload. A component
//! that was refused is tried again when its file changes again. `run` in [`super`] starts the task.

use super::Gateway;
use sluicegate_plugin::transports::{FileSignature, WatchedFile};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// What has become of a file.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    /// It is another one, or has other content.
    Other,
    /// It cannot be found.
    Gone,
}

/// A file that is watched.
#[derive(Debug, Default)]
struct Watched {
    /// As of the last look.
    seen: Option<FileSignature>,
    /// As of the last reload, or of the start.
    used: Option<FileSignature>,
}

impl Watched {
    /// Takes the newest signature, and that of what was read last, by whomever; returns what has become of the file,
    /// once for each change.
    fn look(&mut self, now: Option<FileSignature>, read: Option<FileSignature>) -> Option<Change> {
        if now == read {
            self.used = now;
        }
        let before = std::mem::replace(&mut self.seen, now);
        // A file that is replaced may be missing for a moment.
        let is_stable = before == now;
        if !is_stable || now == self.used {
            return None;
        }
        self.used = now;
        Some(match now {
            Some(_) => Change::Other,
            None => Change::Gone,
        })
    }
}

/// Watches for as long as the gateway runs.
pub(super) async fn watch(gateway: Arc<Gateway>) {
    let mut config = None;
    let mut files: BTreeMap<String, Watched> = BTreeMap::new();
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut drain = gateway.drain();
    loop {
        tokio::select! {
            () = drain.wait() => return,
            _ = tick.tick() => {}
        }
        watch_config(&gateway, &mut config).await;
        let watched = gateway.transports.watched();
        files.retain(|name, _| watched.contains_key(name));
        if watched.is_empty() {
            continue;
        }
        // A file system may not answer for a while.
        let looked = tokio::task::spawn_blocking(move || look(watched));
        let Ok(looked) = looked.await else { continue };
        for (name, read, now) in looked {
            let file = files.entry(name.clone()).or_insert(Watched {
                seen: None,
                used: read,
            });
            match file.look(now, read) {
                Some(Change::Other) => reload(&gateway, name).await,
                Some(Change::Gone) => tracing::warn!(
                    transport = name,
                    "its file cannot be found any more; the component in use stays, and the file is read when it is back"
                ),
                None => {}
            }
        }
    }
}

/// Looks at the config file, if it is watched, and reads it again if it has changed.
async fn watch_config(gateway: &Arc<Gateway>, watched: &mut Option<Watched>) {
    let path = gateway.config().file.clone();
    let Some(path) = path.filter(|_| gateway.config().server.watch) else {
        *watched = None;
        return;
    };
    let shown = path.display().to_string();
    let Ok(now) = tokio::task::spawn_blocking(move || FileSignature::of(&path)).await else {
        return;
    };
    let read = gateway.config_signature();
    let file = watched.get_or_insert(Watched {
        seen: None,
        used: read,
    });
    match file.look(now, read) {
        // The result is logged.
        Some(Change::Other) => drop(gateway.reload("the watcher of the config file").await),
        Some(Change::Gone) => tracing::warn!(
            "{shown} cannot be found any more; the config in force stays, and the file is read when it is back"
        ),
        None => {}
    }
}

type Looked = (String, Option<FileSignature>, Option<FileSignature>);

/// The files by transport, as they were read last and as they are now.
fn look(watched: BTreeMap<String, WatchedFile>) -> Vec<Looked> {
    let files = watched.into_iter();
    files
        .map(|(name, file)| (name, file.read, FileSignature::of(&file.path)))
        .collect()
}

async fn reload(gateway: &Arc<Gateway>, name: String) {
    let what = format!("the watcher reads the file of `{name}`");
    let turn = gateway.changing.wait(what).await;
    let changing = gateway.clone();
    let changed = tokio::task::spawn_blocking(move || {
        // A request may have read it meanwhile.
        let watched = changing.transports.watched();
        let is_read = |file: &WatchedFile| file.read == FileSignature::of(&file.path);
        if watched.get(&name).is_none_or(is_read) {
            return;
        }
        tracing::info!(transport = name, "its file has changed and is read again");
        let changed = changing.reload_transport(&name, false);
        drop(turn);
        if let Err(reason) = changed {
            tracing::error!(transport = name, "{reason}");
        }
    });
    // An error is a panic, which was logged.
    let _ = changed.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_it_stays_as_it_is() {
        let at = |seconds, size| Some(FileSignature::for_tests(seconds, size));
        let mut file = Watched {
            seen: at(1, 10),
            used: at(1, 10),
        };
        for (now, read, change) in [
            (at(1, 10), 1, None),
            (at(2, 5), 1, None),
            (at(3, 10), 1, None),
            (at(3, 10), 1, Some(Change::Other)),
            (at(3, 10), 1, None),
            // Replaced by removing it first.
            (None, 1, None),
            (at(4, 10), 1, None),
            (at(4, 10), 1, Some(Change::Other)),
            (None, 1, None),
            (None, 1, Some(Change::Gone)),
            (None, 1, None),
            (at(4, 10), 1, None),
            (at(4, 10), 1, Some(Change::Other)),
            // A request was faster, and perhaps refused what it read.
            (at(5, 10), 4, None),
            (at(5, 10), 5, None),
            (at(5, 10), 5, None),
        ] {
            assert_eq!(file.look(now, at(read, 10)), change, "{now:?}, {read}");
        }
    }
}
