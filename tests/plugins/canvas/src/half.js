// The half in the browser of the test transport `canvas`: draws each JPEG that arrives on a canvas. For tests it is also
// hostile: `attacks` are what such a half must not be able to do in its frame. It is reachable as `globalThis.half`.

export default class Canvas {
  /** False if the test says so in the browser's name, which a frame can read, too. */
  static canPlay() {
    return navigator.userAgent.includes("NoCanvas") ? "this browser has no canvas" : true;
  }

  #context;
  #socket;
  #canvas = document.createElement("canvas");
  #next = null;
  #busy = false;

  constructor(context) {
    globalThis.half = this;
    this.#context = context;
    Object.assign(this.#canvas.style, { width: "100%", height: "100%", objectFit: "contain", display: "block" });
    context.root.append(this.#canvas);
    this.#socket = new WebSocket(context.socketUrl());
    this.#socket.binaryType = "arraybuffer";
    let opened = false;
    this.#socket.onopen = () => (opened = true);
    this.#socket.onmessage = ({ data }) => this.#received(data);
    this.#socket.onclose = ({ code, reason }) => {
      if (!opened) context.ended("unreachable", "the WebSocket could not be opened");
      else context.ended(code === 1001 ? "draining" : "lost", reason || `the connection was lost (${code})`);
    };
  }

  stop() {
    this.#socket.onclose = null;
    this.#socket.close();
  }

  setMuted(muted) {
    this.muted = muted;
  }

  get canvas() {
    return this.#canvas;
  }

  get context() {
    return this.#context;
  }

  #received(jpeg) {
    this.#context.bytes(jpeg.byteLength);
    this.#context.received(1);
    if (this.#next !== null) this.#context.dropped(1);
    this.#next = { jpeg, at: performance.now() };
    if (!this.#busy) void this.#draw();
  }

  async #draw() {
    this.#busy = true;
    while (this.#next !== null) {
      const { jpeg, at } = this.#next;
      this.#next = null;
      const image = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
      const { width, height } = image;
      if (this.#canvas.width !== width || this.#canvas.height !== height) Object.assign(this.#canvas, { width, height });
      this.#canvas.getContext("2d").drawImage(image, 0, 0);
      image.close();
      this.#context.displayed({ width, height, delay: performance.now() - at });
    }
    this.#busy = false;
  }

  /** What an attack found; it throws, or returns the reason as `{ refused }`, if it failed. */
  async attack(name, argument) {
    // A debugger's call, as the test's is, may do more than the half itself.
    await new Promise((resolve) => setTimeout(resolve));
    try {
      return { found: await attacks[name].call(this, argument) };
    } catch (error) {
      return { refused: `${error.name ?? "Error"}: ${error.message ?? error}` };
    }
  }
}

const attacks = {
  cookies: () => document.cookie || Promise.reject(new Error("there is none")),
  localStorage: () => localStorage.getItem("secret"),
  sessionStorage: () => sessionStorage.getItem("secret"),
  indexedDB: () =>
    new Promise((resolve, reject) => {
      const request = indexedDB.open("secret");
      request.onsuccess = () => resolve(request.result.version);
      request.onerror = () => reject(request.error);
    }),
  caches: async () => (await caches.keys()).length,
  page: () => parent.document.title,
  pageVariable: () => parent.secret,
  origin: () => {
    if (self.origin === "null") throw new Error("opaque");
    return self.origin;
  },
  async fetch(url) {
    const response = await fetch(url);
    return `${response.status} ${(await response.text()).slice(0, 200)}`;
  },
  own() {
    return attacks.fetch(this.context.url("whoami"));
  },
  socket: (url) =>
    new Promise((resolve, reject) => {
      const socket = new WebSocket(url);
      socket.onopen = () => resolve("open");
      socket.onerror = () => reject(new Error("refused"));
    }),
  image: (url) =>
    new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image.width);
      image.onerror = () => reject(new Error("refused"));
      image.src = url;
    }),
  import: async (url) => Object.keys(await import(url)),
  eval: () => new Function("return 1 + 1")(),
  popup: () => {
    const opened = window.open("about:blank");
    if (opened === null) throw new Error("blocked");
    return "open";
  },
  top: (url) => {
    top.location.href = url;
    return "navigated";
  },
  /** `alert`, `confirm` or `prompt`. */
  dialog: (kind) => {
    if (!(globalThis[kind]("password?") ?? kind === "alert")) throw new Error("ignored");
    return "shown";
  },
  /** Keeps its thread busy for so many ms. */
  loop: (ms) => {
    const end = performance.now() + ms;
    while (performance.now() < end);
    return "looped";
  },
  async worker() {
    const url = URL.createObjectURL(new Blob(["postMessage(1 + 1)"]));
    return new Promise((resolve, reject) => {
      const worker = new Worker(url);
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = () => reject(new Error("refused"));
    });
  },
  wasm: async () => WebAssembly.validate(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])) && (await WebAssembly.compile(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]))) && "compiled",
  flood() {
    for (let nth = 0; nth < 200_000; nth++) this.context.bytes(1);
    return "sent";
  },
};
