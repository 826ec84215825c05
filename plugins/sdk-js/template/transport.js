// H.264 as one endless HTTP body, for anything that reads raw Annex B, such as ffplay. The gateway does the rest:
// connections, late and slow viewers, limits, repair.

import { chunk, component, millis, options, parameterSets, reply, video } from "./sluicegate/sluicegate.js";
/** @import { Profile, Sample, StreamInfo } from "./sluicegate/sluicegate.js" */

// One instance serves all viewers of a stream and may be replaced at any time. All state must therefore follow from the
// options, `configure` and the samples since the group began, which is what a new instance receives.
class H264 {
  /** @param {Record<string, unknown>} given The transport's section of the config. */
  constructor(given) {
    // A viewer further behind than `stale` jumps to the newest independent frame.
    const { stale } = options(given, { stale: "2s" });
    /** What this transport needs: the gateway converts the source to one of `formats`. @type {Profile} */
    this.profile = {
      carriers: ["http"],
      formats: ["h264/annexb"],
      lanes: [{ staleMs: millis(stale) }],
      latencyMs: 500,
      label: "H.264",
      embeds: ["file"],
    };
    this.track = 0;
    /** @type {object | null} */
    this.about = null;
  }

  /** The header, which each viewer gets first: the parameter sets. @param {StreamInfo} info */
  configure(info) {
    const found = video(info);
    this.track = found?.track.id ?? 0;
    this.about = found && { codec: found.track.codec, width: found.video.width, height: found.video.height };
    return found ? [parameterSets(found.track.config)] : [];
  }

  /**
   * The chunks that are complete now. The bytes of `sample.data` stay with the gateway; to add some before them, return
   * `chunk(sample, join(head, sample.data))`.
   * @param {Sample} sample
   */
  push(sample) {
    return sample.track === this.track ? [chunk(sample)] : [];
  }

  /** The answer to a GET: of the transport itself, whose client becomes a viewer, or below it. @param {string} path */
  request(path) {
    if (path === "") return reply.follow("video/h264");
    if (path === "info") return this.about ? reply.json(this.about) : reply.pending;
    return reply.notFound(path);
  }
}

export const transport = component(H264);
