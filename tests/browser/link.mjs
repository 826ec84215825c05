// Simulated network link as a TCP relay: all data from the gateway passes one queue with a limited rate and a delay.

import { once } from "node:events";
import { connect, createServer } from "node:net";

const TICK_MS = 5;
const MIN_QUEUE_BYTES = 16_384;
const READ_BYTES = 4096;

/** The link between a page and a gateway. */
export class Link {
  /** Rate in bits per second. */
  rate = 100e6;
  /** One-way delay in ms. */
  delay = 5;
  /** Capacity of the queue in ms at the current rate; beyond it, senders are paused. */
  queue = 300;
  /** Simulated retransmissions: every `every` ms, nothing passes for `ms` ms. */
  stall = { every: 1000, ms: 0 };
  #gateway;
  #server;
  #queue = [];
  #queuedBytes = 0;
  #budget = 0;
  #sockets = new Set();
  #timer;
  /** URL of the gateway through this link. */
  url = "";

  /** Starts relaying to the gateway at `url`. */
  async start(url) {
    this.#gateway = new URL(url);
    this.#server = createServer((client) => this.#connect(client));
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.url = `http://127.0.0.1:${this.#server.address().port}/`;
    let last = performance.now();
    this.#timer = setInterval(() => {
      const now = performance.now();
      this.#forward(now - last, now);
      last = now;
    }, TICK_MS);
  }

  stop() {
    clearInterval(this.#timer);
    for (const socket of this.#sockets) socket.destroy();
    this.#server?.close();
  }

  #connect(client) {
    const gateway = connect({
      port: Number(this.#gateway.port),
      host: this.#gateway.hostname,
      // Small reads, so that connections share the link fairly.
      onread: {
        buffer: Buffer.alloc(READ_BYTES),
        callback: (length, buffer) => {
          this.#queue.push({ client, data: Buffer.from(buffer.subarray(0, length)) });
          this.#queuedBytes += length;
          return this.#queuedBytes <= this.#maxQueueBytes();
        },
      },
    });
    for (const socket of [client, gateway]) {
      socket.setNoDelay(true);
      this.#sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        this.#sockets.delete(socket);
        client.destroy();
        gateway.destroy();
      });
    }
    client.on("data", (data) => setTimeout(() => gateway.write(data), this.delay));
    gateway.on("end", () => this.#queue.push({ client, data: null }));
  }

  #maxQueueBytes() {
    return Math.max(MIN_QUEUE_BYTES, (this.rate / 8000) * this.queue);
  }

  #forward(ms, now) {
    if (now % this.stall.every < this.stall.ms) return;
    this.#budget = Math.min(this.#budget + (this.rate / 8000) * ms, (this.rate / 8000) * TICK_MS * 4);
    while (this.#queue.length > 0 && this.#budget > 0) {
      const first = this.#queue[0];
      if (first.data === null) {
        this.#queue.shift();
        setTimeout(() => first.client.end(), this.delay);
        continue;
      }
      const chunk = first.data.subarray(0, Math.max(1, Math.floor(this.#budget)));
      first.data = first.data.subarray(chunk.length);
      if (first.data.length === 0) this.#queue.shift();
      this.#budget -= chunk.length;
      this.#queuedBytes -= chunk.length;
      setTimeout(() => first.client.write(chunk), this.delay);
    }
    if (this.#queuedBytes < this.#maxQueueBytes()) for (const socket of this.#sockets) socket.resume();
  }
}
