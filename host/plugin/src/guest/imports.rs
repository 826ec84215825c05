//! Host side of the guest's imports: `media`, `viewers` and `log`. Called by wasmtime during guest calls.

use super::{Guest, LimitExceeded, Name};
use crate::{
    Effect, ViewerHandle,
    bindings::{log, media, viewers},
};
use bytes::Bytes;
use sluicegate_media::buffer::{Buffer, SharedSlice};
use wasmtime::component::Resource;

/// Longest line in the log, in characters.
const LOG_CHARS: usize = 2000;

impl media::Host for Guest {}

impl media::HostBuffer for Guest {
    fn new(&mut self, pieces: Vec<media::Piece>) -> wasmtime::Result<Resource<Buffer>> {
        let mut runs: Vec<SharedSlice> = Vec::with_capacity(pieces.len());
        let mut total = 0usize;
        for piece in pieces {
            match piece {
                media::Piece::Bytes(bytes) => {
                    total += bytes.len();
                    runs.push(Bytes::from(bytes).into());
                }
                media::Piece::Slice(slice) => {
                    let source = self.table.get(&slice.source)?;
                    let (offset, length) = (slice.offset as usize, slice.length as usize);
                    if offset
                        .checked_add(length)
                        .is_none_or(|end| end > source.len())
                    {
                        return Err(LimitExceeded::Slice {
                            offset: slice.offset,
                            length: slice.length,
                            size: source.len(),
                        }
                        .into());
                    }
                    total += length;
                    runs.extend(source.slice(offset, length));
                }
            }
            if self.held + total > self.limits.buffers {
                return Err(LimitExceeded::Buffers(self.limits.buffers).into());
            }
        }
        self.lend(runs.into_iter().collect())
    }

    fn size(&mut self, buffer: Resource<Buffer>) -> wasmtime::Result<u32> {
        Ok(u32::try_from(self.table.get(&buffer)?.len()).unwrap_or(u32::MAX))
    }

    fn read(
        &mut self,
        buffer: Resource<Buffer>,
        offset: u32,
        length: u32,
    ) -> wasmtime::Result<Vec<u8>> {
        let payload = self.table.get(&buffer)?;
        let mut bytes = Vec::with_capacity((length as usize).min(payload.len()));
        for piece in payload.slice(offset as usize, length as usize) {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    fn drop(&mut self, buffer: Resource<Buffer>) -> wasmtime::Result<()> {
        self.take(buffer).map(|_| ())
    }
}

impl viewers::Host for Guest {
    fn find(&mut self, id: u64) -> wasmtime::Result<Option<Resource<ViewerHandle>>> {
        let request = self.viewers.get(&id).cloned();
        request
            .map(|request| self.lend_viewer(id, request))
            .transpose()
    }

    fn keyframe(&mut self) -> wasmtime::Result<()> {
        self.requests.keyframe = true;
        Ok(())
    }

    #[cfg(feature = "next-interface")]
    fn count(&mut self) -> wasmtime::Result<u32> {
        Ok(u32::try_from(self.viewers.len()).unwrap_or(u32::MAX))
    }
}

impl viewers::HostViewer for Guest {
    fn id(&mut self, viewer: Resource<ViewerHandle>) -> wasmtime::Result<u64> {
        Ok(self.viewer_table.get(&viewer)?.id)
    }

    fn carrier(&mut self, viewer: Resource<ViewerHandle>) -> wasmtime::Result<String> {
        Ok(self
            .viewer_table
            .get(&viewer)?
            .request
            .carrier
            .name()
            .to_owned())
    }

    fn path(&mut self, viewer: Resource<ViewerHandle>) -> wasmtime::Result<String> {
        Ok(self.viewer_table.get(&viewer)?.request.path.clone())
    }

    fn query(&mut self, viewer: Resource<ViewerHandle>) -> wasmtime::Result<String> {
        Ok(self.viewer_table.get(&viewer)?.request.query.clone())
    }

    fn protocol(&mut self, viewer: Resource<ViewerHandle>) -> wasmtime::Result<Option<String>> {
        Ok(self.viewer_table.get(&viewer)?.request.protocol.clone())
    }

    fn may(&mut self, viewer: Resource<ViewerHandle>, role: String) -> wasmtime::Result<bool> {
        let roles = &self.viewer_table.get(&viewer)?.request.roles;
        Ok(roles.contains(&role))
    }

    fn send(
        &mut self,
        viewer: Resource<ViewerHandle>,
        content: media::Payload,
    ) -> wasmtime::Result<()> {
        let content = self.take_content(content)?;
        self.collect(&viewer, Effect::Send(content))
    }

    fn choose(&mut self, viewer: Resource<ViewerHandle>, lanes: Vec<u8>) -> wasmtime::Result<()> {
        self.request(&viewer, Effect::Lanes(lanes))
    }

    fn stream_head(
        &mut self,
        viewer: Resource<ViewerHandle>,
        lane: u8,
        bytes: Vec<u8>,
    ) -> wasmtime::Result<()> {
        self.request(&viewer, Effect::StreamHead(lane, bytes.into()))
    }

    fn reply(
        &mut self,
        viewer: Resource<ViewerHandle>,
        client_stream: u64,
        data: Resource<Buffer>,
        last: bool,
    ) -> wasmtime::Result<()> {
        let data = self.take_output(data)?;
        let stream = client_stream;
        self.collect(&viewer, Effect::Reply { stream, data, last })
    }

    fn talk(
        &mut self,
        _: Resource<ViewerHandle>,
        _: String,
        frame: Resource<Buffer>,
    ) -> wasmtime::Result<Result<(), String>> {
        self.take(frame)?;
        Ok(Err("this stream takes neither voice nor picture".into()))
    }

    fn close(&mut self, viewer: Resource<ViewerHandle>, reason: String) -> wasmtime::Result<()> {
        self.request(&viewer, Effect::Close(reason))
    }

    fn drop(&mut self, viewer: Resource<ViewerHandle>) -> wasmtime::Result<()> {
        self.viewer_table.delete(viewer)?;
        Ok(())
    }
}

impl log::Host for Guest {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        // Errors are not rate limited, since the last error of a call explains its trap. They are logged at debug level
        // only.
        if level != log::Level::Error && !self.log.spend(&self.name) {
            return Ok(());
        }
        let message: String = message
            .chars()
            .filter(|c| !c.is_control())
            .take(LOG_CHARS)
            .collect();
        let Name { plugin, stream } = &self.name;
        match level {
            log::Level::Error => {
                tracing::debug!(%plugin, %stream, "component error: {message}");
                self.last_error = Some(message);
            }
            log::Level::Warn => tracing::warn!(%plugin, %stream, "{message}"),
            log::Level::Info => tracing::info!(%plugin, %stream, "{message}"),
            log::Level::Debug => tracing::debug!(%plugin, %stream, "{message}"),
        }
        Ok(())
    }
}
