// A camera for tests: a TCP server that sends raw Annex B, taken live from `nal` of a gateway's streams, one after
// another. This allows tests to change the frame size at any moment.

import { once } from "node:events";
import { createServer, connect } from "node:net";

export class Camera {
  #server = createServer((socket) => {
    socket.on("error", () => undefined);
    this.#viewer = socket;
  });
  #viewer = null;
  #source = null;

  /** Starts the server and returns the source URL for a stream's config. */
  async listen() {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `annexb:tcp://127.0.0.1:${this.#server.address().port}`;
  }

  /** Bytes of filler data (H.264 7.3.2.7) behind each frame, which decoders pass over. */
  filler = 0;

  /** Switches to the stream with this base URL, from its next keyframe on. */
  show(base) {
    this.#source?.destroy();
    const { hostname, port, pathname } = new URL(base);
    const source = connect(Number(port), hostname);
    this.#source = source;
    source.on("error", () => undefined);
    source.write(
      `GET ${pathname}/nal HTTP/1.1\r\nHost: ${hostname}:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    let bytes = Buffer.alloc(0);
    let open = false;
    source.on("data", (data) => {
      bytes = Buffer.concat([bytes, data]);
      if (!open) {
        const head = bytes.indexOf("\r\n\r\n");
        if (head < 0) return;
        open = true;
        bytes = bytes.subarray(head + 4);
      }
      for (let frame = firstFrame(bytes); frame !== null; frame = firstFrame(bytes)) {
        if (frame.binary) {
          this.#viewer?.write(frame.payload);
          if (this.filler > 0) this.#viewer?.write(filler(this.filler));
        }
        bytes = bytes.subarray(frame.size);
      }
    });
  }

  close() {
    this.#source?.destroy();
    this.#viewer?.destroy();
    this.#server.close();
  }
}

/** Parses the first complete WebSocket frame (RFC 6455 section 5.2; frames from a server are not masked). */
function firstFrame(bytes) {
  if (bytes.length < 10) return null;
  const short = bytes[1] & 0x7f;
  const [head, length] = short < 126 ? [2, short] : short === 126 ? [4, bytes.readUInt16BE(2)] : [10, Number(bytes.readBigUInt64BE(2))];
  if (bytes.length < head + length) return null;
  return { binary: (bytes[0] & 0x0f) === 2, payload: bytes.subarray(head, head + length), size: head + length };
}

/** A NAL unit of filler data with its start code. */
function filler(bytes) {
  const unit = Buffer.alloc(bytes, 0xff);
  unit.set([0, 0, 0, 1, 12]);
  unit[bytes - 1] = 0x80;
  return unit;
}
