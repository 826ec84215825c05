// A WebSocket that ends once, and is given up if it does not open: a proxy may take the connection, and neither pass the
// request to upgrade it on nor refuse it.

/** So long (ms) it may take to open. A gateway lets it open at once, but where a component has to be started first. */
const OPEN_MS = 8000;

export interface ConnectionEvents {
  opened?(): void;
  message(data: ArrayBuffer | string): void;
  /** It is over. Null: it never opened; a browser does not tell why. */
  ended(close: { readonly code: number; readonly reason: string } | null): void;
}

/** One WebSocket, which connects at once. */
export class Connection {
  readonly #socket: WebSocket;
  readonly #events: ConnectionEvents;
  #opened = false;
  #over = false;

  constructor(url: URL, events: ConnectionEvents) {
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#events = events;
    socket.binaryType = "arraybuffer";
    // Runs on behind `close`, which lets a socket that connects open first.
    const late = setTimeout(() => {
      socket.close();
      this.#end(null);
    }, OPEN_MS);
    socket.onopen = () => {
      clearTimeout(late);
      if (this.#over) {
        socket.close();
        return;
      }
      this.#opened = true;
      events.opened?.();
    };
    socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
      if (!this.#over) events.message(data);
    };
    socket.onclose = (close) => {
      clearTimeout(late);
      this.#end(this.#opened ? close : null);
    };
  }

  get isOpen(): boolean {
    return this.#opened && !this.#over && this.#socket.readyState === WebSocket.OPEN;
  }

  /** What is said while it is not open is lost. */
  send(text: string): void {
    if (this.isOpen) this.#socket.send(text);
  }

  /** Nothing is told afterwards. */
  close(): void {
    this.#over = true;
    // Closed while it connects, the browser would log an error.
    if (this.#socket.readyState !== WebSocket.CONNECTING) this.#socket.close();
  }

  #end(close: Parameters<ConnectionEvents["ended"]>[0]): void {
    if (this.#over) return;
    this.#over = true;
    this.#events.ended(close);
  }
}
