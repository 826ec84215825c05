// The half in the browser: decodes H.264 and draws it. A message is a chunk: the header first, then a frame each.
export default class H264 {
  static canPlay = () => "VideoDecoder" in self || "this browser decodes only on pages by https or from localhost";
  constructor(context) {
    const canvas = context.root.appendChild(document.createElement("canvas"));
    canvas.style = "display: block; width: 100%; height: 100%; object-fit: contain";
    const output = (frame) => {
      const { displayWidth: width, displayHeight: height } = frame;
      Object.assign(canvas, { width, height }).getContext("2d").drawImage(frame, 0, 0);
      context.displayed({ width, height, delay: performance.now() - frame.timestamp / 1000 });
      frame.close();
    };
    const decoder = new VideoDecoder({ output, error: ({ message }) => context.ended("lost", message) });
    const socket = Object.assign(new WebSocket(context.socketUrl()), { binaryType: "arraybuffer" });
    socket.onmessage = ({ data: header }) => {
      const hex = Array.from(new Uint8Array(header, 5, 3), (byte) => byte.toString(16).padStart(2, "0"));
      decoder.configure({ codec: `avc1.${hex.join("")}`, optimizeForLatency: true });
      let type = "key";
      socket.onmessage = ({ data }) => {
        context.bytes(data.byteLength);
        context.received(1);
        const bytes = new Uint8Array(type === "key" ? [...new Uint8Array(header), ...new Uint8Array(data)] : data);
        decoder.decode(new EncodedVideoChunk({ type, timestamp: performance.now() * 1000, data: bytes }));
        type = "delta";
      };
    };
    socket.onclose = ({ code, reason }) => context.ended("lost", reason || `the connection was lost (${code})`);
    this.stop = () => socket.close();
  }
}
