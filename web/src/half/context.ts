// The context that a half gets, in the frame and, if it is trusted, in the page. What the half reports becomes messages,
// which `Reports` checks and reads: both ways are the same.

import type { FrameTask, Half, HalfClass, HalfContext, HalfFrame } from "./contract";

/** Sends a message, as `Reports` reads them. */
export type Post = (message: string) => void;

/** The context of one half; `post` gets its messages. */
export class Context implements HalfContext {
  readonly root: HTMLElement;
  readonly #post: Post;
  readonly #carriers: readonly string[];
  #url: URL;
  #muted: boolean;

  constructor(root: HTMLElement, { url, carriers, muted }: Pick<FrameTask, "url" | "carriers" | "muted">, post: Post) {
    this.root = root;
    this.#post = post;
    this.#carriers = carriers;
    this.#url = new URL(url);
    this.#muted = muted;
  }

  get muted(): boolean {
    return this.#muted;
  }

  /** Sound is off or on from now on. */
  setMuted(muted: boolean): void {
    this.#muted = muted;
  }

  /** The address has a new ticket. */
  setUrl(url: string): void {
    this.#url = new URL(url);
  }

  url(path = ""): URL {
    const url = new URL(this.#url);
    if (path !== "") url.pathname += `/${path}`;
    return url;
  }

  socketUrl(path = ""): URL {
    // A browser hides the gateway's answer to a handshake.
    if (this.#carriers.length > 0 && !this.#carriers.includes("websocket")) {
      throw new Error(`the transport is not available over websocket, only over ${this.#carriers.join(" or ")}: see \`carriers\` of its profile`);
    }
    const url = this.url(path);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return url;
  }

  bytes(count: number): void {
    this.#send("bytes", count);
  }

  received(count: number): void {
    this.#send("received", count);
  }

  displayed({ width, height, count = 1, delay }: HalfFrame): void {
    this.#send("displayed", width, height, count, delay ?? null);
  }

  dropped(count: number): void {
    this.#send("dropped", count);
  }

  audio(present: boolean): void {
    this.#send("audio", present);
  }

  link(bytes: number, ms: number): void {
    this.#send("link", bytes, ms);
  }

  queued(ms: number): void {
    this.#send("queued", ms);
  }

  ended(kind: string, reason: string): void {
    this.#send("ended", kind, String(reason).slice(0, 200));
  }

  #send(...message: readonly unknown[]): void {
    this.#post(JSON.stringify(message));
  }
}

/** Loads the module. Throws if it has no class as its default export. */
export async function load(module: string): Promise<HalfClass> {
  const { default: found } = (await import(module)) as { default?: HalfClass };
  if (typeof found !== "function") throw new Error("the module has no class as its default export");
  return found;
}

/** Starts the half; a failure ends it. */
export async function start(module: string, context: Context): Promise<Half | null> {
  try {
    const found = await load(module);
    return new found(context);
  } catch (error) {
    context.ended("unsupported", `the module does not start: ${String(error)}`);
    return null;
  }
}

/** The half's answer whether it can play: null if it can, otherwise the reason. */
export async function obstacle(module: string): Promise<string | null> {
  try {
    const found = await load(module);
    const answer = (await found.canPlay?.()) ?? true;
    if (answer === true) return null;
    return typeof answer === "string" && answer !== "" ? answer : "the transport's player cannot play in this browser";
  } catch (error) {
    return `the transport's player does not load: ${String(error)}`;
  }
}
