// Generated from wit/gateway.wit by plugins/sdk-js/types; do not edit.

/**
 * Buffers, tracks and samples. Payload stays in the host's memory: a guest works with handles, joins slices of
 * buffers with bytes of its own, and returns handles. Dropping a handle frees it.
 */
declare module "sluicegate:gateway/media" {
  /**
   * An immutable sequence of bytes in the host's memory. Its size counts against the limit of 64 MiB for as long as
   * the guest holds the handle. Returning a buffer to the host gives the handle away.
   */
  export class Buffer {
    /**
     * Concatenates the pieces, in order, into a new buffer. Large slices share the memory of their source, small
     * ones may be copied. A slice that reaches beyond the end of its source traps.
     */
    constructor(pieces: Piece[]);
    /** Size in bytes. */
    size(): number;
    /**
     * Copies up to `length` bytes, starting at `offset`, into the guest's memory. Returns fewer bytes, or none,
     * where the buffer ends before; never an error.
     */
    read(offset: number, length: number): Uint8Array;
    /** Frees the handle now. Otherwise it is freed once nothing refers to the object. */
    [Symbol.dispose](): void;
  }
  /** A range of an existing buffer; `offset` and `length` are in bytes. */
  export interface Slice {
    source: Buffer;
    offset: number;
    length: number;
  }
  /** Part of a new buffer: the guest's own bytes, which are copied to the host, or a slice of an existing buffer. */
  export type Piece =
    | { tag: "bytes"; val: Uint8Array }
    | { tag: "slice"; val: Slice };
  /** Properties of a video track. Zero in `frame-rate` or `keyframe-ms` means unknown. */
  export interface Video {
    /** Coded width in pixels, before `pixel-aspect`, `rotation` and `mirrored` are applied. */
    width: number;
    /** Coded height in pixels. */
    height: number;
    /**
     * Sample aspect ratio: width and height of a coded pixel, without a common factor, each from 1 to 65,535. For
     * example (16, 11) displays 640×360 as 931×360. (1, 1) if the source does not state it, and for JPEG.
     */
    pixelAspect: [number, number];
    /** Clockwise rotation in degrees that makes the coded picture upright: 0, 90, 180 or 270. 0 for JPEG. */
    rotation: number;
    /** Whether left and right have to be exchanged before the rotation. */
    mirrored: boolean;
    /** Frames per second; 0: unknown. */
    frameRate: number;
    /** Longest expected distance between two independent samples, in milliseconds; 0: unknown. */
    keyframeMs: number;
  }
  /** Properties of an audio track. */
  export interface Audio {
    /** Samples per second and channel. */
    sampleRate: number;
    /** Number of channels. */
    channels: number;
    /** Language as a BCP 47 tag; "und" if unknown. */
    language: string;
  }
  /** What a track carries. `data` is reserved; this version of the host has video and audio only. */
  export type Kind =
    | { tag: "video"; val: Video }
    | { tag: "audio"; val: Audio }
    | { tag: "data" };
  /** One track of a stream, in one of the formats that the transport's profile lists. */
  export interface Track {
    /** Starts at 1. A track keeps its id when the stream is configured again. */
    id: number;
    /** One of `profile.formats`. */
    format: string;
    /** Codec string of RFC 6381, such as "avc1.64001f". Empty for formats that have none (JPEG). */
    codec: string;
    /**
     * Decoder configuration in its MP4 form: avcC for H.264, AudioSpecificConfig for AAC; also dOps, hvcC, av1C.
     * May be empty.
     */
    config: Uint8Array;
    /**
     * Ticks per second of this track's times: 90,000 for video; for AAC the sampling rate of its frames, so that
     * their times are exact.
     */
    timescale: number;
    kind: Kind;
    /** Further properties, by name. This version has none. */
    more: [string, string][];
  }
  /** One access unit of video (both fields of an interlaced frame) or one audio frame. */
  export interface Sample {
    /** `track.id` of its track. */
    track: number;
    /**
     * Number of the group that the sample belongs to. A group runs from an independent sample to the first
     * independent one at least `profile.group-ms` later. The host counts groups, equally in all renditions of a
     * stream.
     *
     * The first number of a run is the Unix time in units of `group-ms` (at least 1 ms); each following group has
     * the next number. Groups are not shorter than `group-ms`, except one that a break ends while the count is not
     * ahead of the clock. The number is therefore at most one ahead of the clock, and rises across restarts of the
     * gateway too. After such a break it may stay the same for a while.
     */
    group: number;
    /**
     * Decode time in ticks of the track's timescale, on one timeline for all tracks and renditions. Rises within a
     * track, also when the source was lost in between.
     */
    decodeTime: number;
    /** Presentation time minus decode time, in ticks. Not zero where frames are reordered (B-frames). */
    compositionOffset: number;
    /** Expected duration in ticks; 0: unknown. The decode time of the track's next sample is authoritative. */
    duration: number;
    /** Decodable without any earlier sample: an IDR frame, a recovery point, a JPEG, any audio frame. */
    independent: boolean;
    /**
     * Follows an independent sample in decode order, is presented before it, and may refer to samples before it
     * (the leading B-frames of an open GOP). A decoder that starts at the independent sample cannot decode it.
     */
    leading: boolean;
    /** Shows again what the frame before shows, because the source is silent (see `transport.profile.repeat-ms`). */
    repeated: boolean;
    /** Capture time in microseconds since the Unix epoch. May jump, since the wall clock may be set. */
    capturedAt: number;
    /**
     * Presentation time of the first frame of the sample's group, in microseconds since the Unix epoch. Equal in
     * all renditions. Differences between groups equal their durations, except that the time follows the wall clock
     * slowly where the source's clock drifts.
     */
    groupStartedAt: number;
    /** Size of `data` in bytes; saves a call of `buffer.size`. */
    size: number;
    /** Payload in the track's format. */
    data: Buffer;
  }
  /** Content of one message. Text goes to viewers on carriers that have text messages (WebSocket); others skip it. */
  export type Payload =
    | { tag: "binary"; val: Buffer }
    | { tag: "text"; val: string };
}

/**
 * The viewers of a muxer, as seen by its transport.
 *
 * The host collects what a component calls here, and does it in order when the component's call has returned; of a
 * call that traps, nothing is done.
 */
declare module "sluicegate:gateway/viewers" {
  import type { Buffer, Payload } from "sluicegate:gateway/media";
  /**
   * A client of this muxer, from `transport.join` to `transport.leave`. The handle may be kept meanwhile or
   * dropped, which changes nothing. What is requested of a viewer that has left is ignored. If more than 64
   * requests or 4 MiB wait for a viewer, including those of `join`, it is disconnected. What the methods return is
   * as of the time when the viewer joined.
   */
  export class Viewer {
    /** Unique to the connection. */
    id(): number;
    /** One of the profile's carriers. */
    carrier(): string;
    /**
     * The percent-decoded path below this transport that it connected to, without a leading "/"; empty for the
     * transport itself.
     */
    path(): string;
    /** The query as sent, without the gateway's own parameters `session` and `ticket`. */
    query(): string;
    /** The subprotocol of a WebSocket that was agreed on: the first of `profile.protocols` that the client offers. */
    protocol(): string | null;
    /**
     * Whether it may do this: "view" the stream, "capture" images of it, "talk" to the source, "control" the
     * device. False for names that the host does not know.
     */
    may(role: string): boolean;
    /** Send this to the viewer only. On WebTransport it is a stream of its own. */
    send(content: Payload): void;
    /** Lanes, as indices, that the viewer gets from now on. It gets all lanes until the first such call. */
    choose(lanes: Uint8Array): void;
    /**
     * Bytes to send before everything else on each stream that is opened for this viewer and lane from now on, on
     * carriers that open a stream for each group (WebTransport). Ignored on others.
     */
    streamHead(lane: number, bytes: Uint8Array): void;
    /**
     * Send this on a bidirectional stream that the client has opened; `last` ends it. Ignored on carriers without
     * client streams.
     */
    reply(clientStream: number, data: Buffer, last: boolean): void;
    /**
     * Pass one frame of the viewer's voice or picture, in this format, to the source. One viewer talks at a time.
     * Unlike the other methods this takes effect at once. The error says for people why the frame was not taken:
     * who is talking, or that the source takes none, as all sources of this version. The handle of the frame is
     * given away in any case.
     * @throws {string}
     */
    talk(format: string, frame: Buffer): void;
    /**
     * Disconnect the viewer with this reason, which a WebSocket carries in its close frame, and WebTransport in the
     * close of the connection.
     */
    close(reason: string): void;
    /** Frees the handle now. Otherwise it is freed once nothing refers to the object. */
    [Symbol.dispose](): void;
  }
  /** A new handle of a connected viewer, by its id. None if it is not connected. */
  export function find(id: number): Viewer | null;
  /** Request an independent sample from the source or encoder, at most once a second per muxer. */
  export function keyframe(): void;
}

/** The gateway's log. Each line carries name and version of the component, and the stream. */
declare module "sluicegate:gateway/log" {
  /**
   * `error` lines are shown if the call then traps: the last one becomes part of the failure's reason. Otherwise
   * they appear at debug level only. Lines of the other levels appear at their level.
   */
  export type Level = "error" | "warn" | "info" | "debug";
  /**
   * Writes one line. Control characters are removed, and lines are cut after 2,000 characters. Besides errors, an
   * instance may write 32 lines in 10 s; further ones are counted and dropped.
   */
  export function write(level: Level, message: string): void;
}

declare module "sluicegate:gateway/transport" {
  import type { Buffer, Payload, Track, Sample } from "sluicegate:gateway/media";
  import type { Viewer } from "sluicegate:gateway/viewers";
  /** A sequence of chunks with its own lag limit. The order in `profile.lanes` is the order of importance. */
  export interface Lane {
    /**
     * Lag limit in milliseconds, at most 600,000. A viewer further behind than this jumps to the lane's newest
     * independent chunk, if that is ahead of it. 0: it jumps whenever there is a newer independent chunk, so it
     * always gets the newest.
     */
    staleMs: number;
    /**
     * Send chunks that fit as datagrams, on carriers that have them (WebTransport): without a header, and before
     * everything that waits. Others of the lane are streams of their own.
     */
    datagrams: boolean;
  }
  /**
   * Requirements and properties of a transport. The host ignores names of carriers and formats that it does not
   * know, and rejects a profile in which it knows no carrier or no format, or in which a number is out of range.
   */
  export interface Profile {
    /** Carriers that the transport can use: "http", "websocket", "webtransport". "rtc" is reserved. */
    carriers: string[];
    /**
     * WebSocket subprotocols (RFC 6455 section 1.9) that it speaks, best first; at most 16 tokens of at most 64
     * characters. Of those the first one that a client offers is agreed on. Empty: none is.
     */
    protocols: string[];
    /**
     * Accepted formats in order of preference: "h264/avcc", "h264/annexb", "jpeg", "aac"; "opus" and "pcm/s16le"
     * are reserved. For each kind of track the host uses the first format that needs no transcoding, or else
     * transcodes to the first one. Parameters follow after a semicolon: with "h264/annexb;reorder=0", decoding
     * order is presentation order (no B-frames), for which the host transcodes streams that may have some.
     */
    formats: string[];
    /**
     * At most 16 lanes. Empty for a transport that only answers requests (HLS). Such a transport is asked only when
     * it has received all samples there are, and gets groups completely or not at all.
     */
    lanes: Lane[];
    /**
     * Minimum length of a group in milliseconds, at most 60,000. A group runs from an independent sample to the
     * first independent one at least this much later. 0: each independent sample starts a group.
     */
    groupMs: number;
    /**
     * Number of groups, including the current one, that a new instance needs to continue where another was: from 1
     * to 64. The host keeps them and pushes them first.
     */
    history: number;
    /**
     * Milliseconds without a frame from a connected source after which the host pushes the last frame again, so
     * that players keep showing it. A JPEG is repeated once per silence. H.264 is repeated throughout the silence,
     * at intervals of whole frame durations and at least 100 ms; overdue repeats are pushed at once. A repeat is
     * independent only in formats where every frame is. 0: never. Values from 1 to 99 count as 100; at most
     * 600,000.
     */
    repeatMs: number;
    /** Typical delay from capture to screen in milliseconds, at most 600,000. For the policy. */
    latencyMs: number;
    /** Client streams come to `received` piece by piece, as they arrive, and not whole. For carriers that have them. */
    partialStreams: boolean;
    /**
     * What a client without a player of its own opens, relative to this transport's path: "index.m3u8". Empty: the
     * path itself. At most 256 bytes, no leading "/", no "." or ".." segment, no "?", "#", "%", "\\" or control
     * characters.
     */
    entry: string;
    /** Name for people: "HLS". At most 64 characters; empty: the name in the configuration. */
    label: string;
    /**
     * What clients without a player of their own can use the entry as: "image" (an <img>), "playlist" (HLS
     * players), "file" (a media player reads it from beginning to end), "access-units" (a WebSocket message is one
     * access unit of H.264 in Annex B format). The host redirects players by this and knows no transport by its
     * name. It ignores names that it does not know. At most 16.
     */
    embeds: string[];
    /**
     * Name of the output format with its version, at most 64 characters. A component that replaces one with the
     * same value here must emit the same bytes for the same options, `configure` and samples, and answer requests
     * with the same, which the host checks before it switches viewers over. Empty: it may emit anything.
     */
    output: string;
    /** Further properties, by name. The host ignores those that it does not know: this version knows none. */
    more: [string, string][];
  }
  /** The stream, or one of its renditions, as this transport offers it. */
  export interface Rendition {
    /** Name of the rendition; empty for the stream itself. */
    name: string;
    /**
     * URL of this transport in that rendition, relative to this instance's path and ending in "/". Empty for the
     * rendition that this instance serves.
     */
    base: string;
    /** Codec strings of RFC 6381, separated by commas; empty for JPEG. */
    codecs: string;
    /** Peak bit rate in bits per second. */
    bandwidth: number;
    /** Displayed width in square pixels, after rotation; 0 without video. */
    width: number;
    /** Displayed height in square pixels, after rotation; 0 without video. */
    height: number;
    /** Frames per second; 0: unknown. */
    frameRate: number;
    /** Further properties, by name. This version has none. */
    more: [string, string][];
  }
  /** The stream as of the newest break. */
  export interface StreamInfo {
    /**
     * Wall clock at decode time 0, in microseconds since the Unix epoch. Unique to this run of the stream: URLs of
     * immutable content should contain it.
     */
    startedAt: number;
    /** Number of breaks (new tracks, lost source) in this run so far, from 0. */
    epoch: number;
    /**
     * At most one video and one audio track, in formats of the profile. The list changes only where a group begins.
     * An audio track is listed once sound has been received, and removed when there was none for two seconds.
     */
    tracks: Track[];
    /** All renditions of the source including this one, best first. */
    renditions: Rendition[];
    /**
     * Duration in milliseconds of the longest complete group since the newest break; 0 before there is one. Equal
     * in all renditions.
     */
    longestGroupMs: number;
    /** Further properties, by name. This version has none. */
    more: [string, string][];
  }
  /** Track and presentation time of media, in ticks of the track's timescale. */
  export interface MediaTime {
    track: number;
    presentation: number;
  }
  /**
   * Output of the muxer, for every viewer of its lane: one WebSocket message, or the next bytes of an HTTP body. On
   * WebTransport an independent chunk opens a new stream, header first, and the chunks up to the next independent
   * one follow on it; newer streams come first, and stale ones are reset.
   */
  export interface Chunk {
    /** The bytes or the text to send. */
    payload: Payload;
    /** Index into `profile.lanes`; traps if it is out of range. */
    lane: number;
    /** A viewer may start with this chunk. */
    independent: boolean;
    /** Contains leading samples only. Viewers that started at the newest independent chunk do not get it. */
    leading: boolean;
    /**
     * When what it contains is presented, for carriers that need to know (RTP, datagrams that expire). None: as the
     * sample that was pushed. A track that is not configured traps.
     */
    time: MediaTime | null;
  }
  /** A complete HTTP response. */
  export interface Response {
    /** HTTP status, from 200 to 599; any other becomes 500. */
    status: number;
    /** Value of `Content-Type`, at most 256 bytes. */
    contentType: string;
    /**
     * Seconds for which HTTP caches may keep the response; 0: they may not. The highest u32 means for ever: the
     * content at this URL never changes. The host itself calls `request` again after the next `configure`, `push`
     * or `stop`, except for responses that last for ever. With status 503: seconds after which the client should
     * retry (1 to 60).
     */
    maxAge: number;
    /**
     * Further headers, at most 16 with 4 KiB together. The host sends "accept-patch", "content-disposition",
     * "content-language", "etag", "last-modified", "link" and "location" (a path relative to the request's). All
     * others are its own; they are left out, with a line in the log.
     */
    headers: [string, string][];
    /** The response's body. The gateway compresses text and serves no byte ranges. */
    body: Buffer;
  }
  /** Answer to a GET. */
  export type Reply =
    /** Respond with this. */
    | { tag: "done"; val: Response }
    /**
     * Not available yet. The host calls again after the next `configure`, `push` or `stop`. After six times
     * `group-ms`, but at least 10 s and at most 60 s, the client gets 503.
     */
    | { tag: "pending" }
    /** Respond 200 with this content type, then `join` the client as a viewer on the carrier "http". */
    | { tag: "follow"; val: string };
  /** Data of a stream that the client has opened, on carriers that have client streams. */
  export interface StreamData {
    /** Identifies the stream among those of this viewer. */
    id: number;
    /** `viewer.reply` can answer on it. */
    bidirectional: boolean;
    /** All of it or, with `partial-streams`, the next piece. */
    data: Buffer;
    /** Nothing follows. */
    last: boolean;
  }
  /** Something from a viewer: a WebSocket message of at most 64 KiB, a datagram, or data of a client stream. */
  export type Message =
    | { tag: "text"; val: string }
    | { tag: "binary"; val: Buffer }
    | { tag: "datagram"; val: Buffer }
    | { tag: "client-stream"; val: StreamData };
  /**
   * A transport. One instance is one muxer: this transport on one stream or rendition, shared by all its viewers.
   *
   * Order of calls: `open` once, then `configure`, then `push` for each sample. `stop` interrupts the samples until
   * the next `configure`, or for ever. `request`, `join`, `received` and `leave` may come between any two of these
   * calls, also before the first `configure`. A new instance first gets the recent past by `push`
   * (`profile.history` groups), and, if it takes the place of another one, `join` for each connected viewer, at
   * once or later. What viewers sent to the other one is not repeated.
   *
   * The rule that makes replacement possible: what `push` and `stop` return may depend only on the options, the
   * newest `configure` and the samples since the group began (for a `history` of more than 1: since the oldest of
   * those groups began). The host then discards output for samples whose output viewers already have. A sample on
   * which `push` failed is not pushed to this component again.
   */
  export interface Transport {
    /**
     * First call of an instance. `options` is the transport's section of the config as a JSON object, without the
     * keys that the host uses itself. The error is a sentence for the author of the config; `sluicegate check` and
     * the start of the gateway show it. `configure` follows.
     * @throws {string}
     */
    open(options: string): Profile;
    /**
     * Announces the first tracks, or a break (new tracks, a source that came back). Returns the header: the host
     * sends it to connected viewers before the next chunk if it has changed, and to each new viewer before its
     * first chunk.
     */
    configure(info: StreamInfo): Payload[];
    /** Delivers one sample of the configured tracks, in order of arrival. Returns the chunks that are complete now. */
    push(sample: Sample): Chunk[];
    /**
     * Announces that no sample follows until the next `configure` or, if `final`, ever. Returns what was held back.
     * Requests may still come. `reason` is a phrase such as "source lost".
     */
    stop(reason: string, final: boolean): Chunk[];
    /**
     * Answers a GET or HEAD at `path`, the percent-decoded path below this transport without a leading "/"; empty
     * for the transport itself. `query` is as sent, without the gateway's own parameters `session` and `ticket`.
     * Called once for all clients that request the same URL between two samples, so it must not change what later
     * calls answer. URLs in the body should be relative.
     */
    request(path: string, query: string): Reply;
    /**
     * Announces a viewer, on one of the profile's carriers. The viewer gets what is sent to it in this call, then
     * the header, then the chunks of each lane from its newest independent one. An error refuses the viewer with
     * status 400, and is the text of that answer. In an instance that takes the place of another one, `join` is
     * called again for each connected viewer, with a new handle; whatever it then requests is ignored, and so is an
     * error: `received` and `leave` follow as for the others. For a viewer that was refused, `leave` is not called.
     * @throws {string}
     */
    join(who: Viewer): void;
    /** Delivers something that a viewer sent. */
    received(viewer: number, what: Message): void;
    /**
     * Announces that a viewer is disconnected, whoever closed the connection. No more calls name it. Here and in
     * `received` the viewer is named by its id, since the handle may have been dropped.
     */
    leave(viewer: number): void;
  }
}

declare module "sluicegate:gateway/browser" {
  /**
   * The half of a transport that runs in the browser, so that the gateway's own player plays it. Optional: a
   * component exports it besides `transport` if it has one.
   */
  export interface Browser {
    /**
     * The source of an ES module: not empty, at most 1 MiB. It may import nothing. Its default export is a class;
     * docs/guide/plugins.md describes its methods and where it runs. Called once when the component is loaded, in
     * an instance of its own. If it fails, the component is refused.
     */
    module(): string;
  }
}

declare module "sluicegate:gateway/policy" {
  /** The player of a session, as known when the session is opened. */
  export interface Client {
    /** IP address. */
    address: string;
    /** HTTP `User-Agent`; empty if there is none. */
    userAgent: string;
    /** The browser asks for reduced data usage (Save-Data). */
    saveData: boolean;
    /** Type of the network; see `report.network`. */
    network: string | null;
    /** The viewer has turned sound on; see `report.listening`. */
    listening: boolean;
    /** Further properties, by name. This version has none. */
    more: [string, string][];
  }
  /**
   * A combination of transport and rendition that this client can play and the config allows. Renditions of a
   * transport are listed best first.
   */
  export interface Candidate {
    /** Name of the transport. */
    transport: string;
    /** Name of the transport for people (`profile.label`). */
    label: string;
    /** Name of the rendition; empty for the stream itself. */
    rendition: string;
    /** Peak bit rate in bits per second, measured if possible, otherwise estimated. */
    bandwidth: number;
    /** Typical delay from capture to screen in milliseconds (`profile.latency-ms`). */
    latencyMs: number;
    /** Displayed width in pixels; 0: unknown. */
    width: number;
    /** Displayed height in pixels; 0: unknown. */
    height: number;
    /** Frames per second; 0: unknown. */
    frameRate: number;
    /** Carries the stream's sound. If the stream has not run yet: would carry it if there is any. */
    sound: boolean;
    /** Further properties, by name. This version has none. */
    more: [string, string][];
  }
  /**
   * Measurements of what plays now; during a move that is still the old candidate. Counts and durations are since
   * the previous report.
   */
  export interface Report {
    /** Round-trip time of a message from the gateway to the client, in milliseconds. */
    roundTripMs: number | null;
    /**
     * Bits per second that the link to the client carried while data was in flight. None if there was too little to
     * measure.
     */
    goodput: number | null;
    /** Bits per second that the client received. */
    received: number;
    /**
     * Queueing delay in milliseconds: how much later media arrives than it could, because it waits at the gateway
     * or in the network.
     */
    queuedMs: number;
    /** Media in the player's buffer, in milliseconds. None if the player shows each frame as it arrives. */
    bufferedMs: number | null;
    /** Milliseconds without a new frame on the screen while the source delivered frames. */
    stalledMs: number;
    /** Frames that the device received but did not show in time. */
    framesDropped: number;
    /** Frames shown per second. */
    frameRate: number;
    /** "wifi", "cellular" or "ethernet". Where the browser reports only the quality: "slow-2g", "2g", "3g" or "4g". */
    network: string | null;
    /** Whether the player is visible. A hidden player is sent no media. */
    visible: boolean;
    /** The viewer has turned sound on, whether or not the candidate that plays carries any. */
    listening: boolean;
    /** Share of packets that were lost, from 0 to 1, on carriers that can tell. */
    loss: number | null;
    /** Width in device pixels at which the player shows the video; 0: unknown. */
    viewWidth: number;
    /** Height in device pixels at which the player shows the video; 0: unknown. */
    viewHeight: number;
    /** Further measurements, by name. This version has none. */
    more: [string, number][];
  }
  /** What happened to a session. Numbers are indices into the newest list of candidates. */
  export type Event =
    /** Measurements, about once a second. */
    | { tag: "report"; val: Report }
    /** The candidate's first frame is on the screen: the move to it is complete. */
    | { tag: "playing"; val: number }
    /** The candidate showed no frame in time, or its connection ended. */
    | { tag: "failed"; val: number }
    /** Something else: its name and properties. A policy ignores what it does not know; this version has none. */
    | { tag: "other"; val: [string, [string, string][]] };
  /**
   * An answer: an index into the newest list of candidates, and the reason. The reason is shown to people as a
   * phrase that states what was observed; it is cut after 300 characters.
   */
  export interface Choice {
    candidate: number;
    reason: string;
  }
  /** One viewing session. The host drops it when the session ends. */
  export interface Session {
    /**
     * Chooses among the candidates, of which there is at least one. Called after `open`, after the instance was
     * replaced, and whenever the candidates change. `playing` is what plays already, if it is still among them. In
     * that case the session does not move, whatever the answer is; a later `observe` can move it.
     */
    choose(at: number, candidates: Candidate[], playing: number | null): Choice;
    /**
     * Handles an event. A choice moves the session: the player starts the new candidate before it stops the old
     * one. Choosing the candidate that plays cancels the move in progress. None: no change.
     */
    observe(at: number, event: Event): Choice | null;
  }
  export interface SessionClass {
    /**
     * Opens a session. `options` is the policy's section of the config as a JSON object, with the changes that the
     * client's rule makes; `validate` has accepted it. An error is treated as a failure of the component.
     * @throws {string}
     */
    open(client: Client, options: string): Session;
  }
  /**
   * A policy: chooses transport and rendition of each viewing session, and moves the session later.
   *
   * Times are milliseconds on one monotonic clock of the gateway, with an arbitrary start. What a session answers
   * may depend only on its client, its options and its earlier calls, in order, so that recorded sessions can be
   * replayed.
   *
   * An answer that is out of range, or takes more than 500 ms, is replaced by the first candidate. After a failure,
   * sessions are opened again in a new instance; one with which the instance failed three times is not passed to it
   * again.
   */
  export interface Policy {
    Session: SessionClass;
    /**
     * Checks options, as `session.open` gets them, for a gateway with these transports. The error is a sentence for
     * the author of the config; `sluicegate check` and the start of the gateway show it.
     * @throws {string}
     */
    validate(options: string, transports: string[]): void;
  }
}
