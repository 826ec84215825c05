// A WebSocket that reports its end exactly once and has a timeout for opening: a proxy may accept the connection and
// then neither forward nor refuse the upgrade request.

/** Timeout (ms) for opening. The gateway accepts at once, except when a component has to be started first. */
const OPEN_TIMEOUT_MS = 8000;

export interface ConnectionEvents {
  opened?(): void;
  message(data: ArrayBuffer | string): void;
  /** The connection ended. Null: it never opened, for a reason that browsers do not reveal. */
  ended(close: { readonly code: number; readonly reason: string } | null): void;
}

/** One WebSocket, which connects on construction. */
export class Connection {
  readonly #socket: WebSocket;
  readonly #events: ConnectionEvents;
  #opened = false;
  #closed = false;

  constructor(url: URL, events: ConnectionEvents) {
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#events = events;
    socket.binaryType = "arraybuffer";
    // Not cleared by `close`, which lets a connecting socket open before it closes it.
    const timeout = setTimeout(() => {
      socket.close();
      this.#end(null);
    }, OPEN_TIMEOUT_MS);
    socket.onopen = () => {
      clearTimeout(timeout);
      if (this.#closed) {
        socket.close();
        return;
      }
      this.#opened = true;
      events.opened?.();
    };
    socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
      if (!this.#closed) events.message(data);
    };
    socket.onclose = (close) => {
      clearTimeout(timeout);
      this.#end(this.#opened ? close : null);
    };
  }

  get isOpen(): boolean {
    return this.#opened && !this.#closed && this.#socket.readyState === WebSocket.OPEN;
  }

  /** Sends a message; dropped if the connection is not open. */
  send(data: string | Uint8Array<ArrayBuffer>): void {
    if (this.isOpen) this.#socket.send(data);
  }

  /** Closes the connection. No event follows. */
  close(): void {
    this.#closed = true;
    // Closing a connecting socket would make the browser log an error.
    if (this.#socket.readyState !== WebSocket.CONNECTING) this.#socket.close();
  }

  #end(close: Parameters<ConnectionEvents["ended"]>[0]): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#events.ended(close);
  }
}
