// An API description in the gateway's format that contains one of everything the API page displays.

const message = (name: string, description: string, schema: object): object => ({ name, description, schema });

export const OPENAPI = {
  openapi: "3.1.1",
  info: { title: "Sluicegate", version: "0.1.0", description: "Live video.\n\nTimes are `Unix` ms:\n\n- one\n- two,\n  longer\n" },
  tags: [
    { name: "capture", description: "Still images." },
    { name: "empty", description: "Nothing has this." },
    { name: "devices", description: "Streams." },
  ],
  paths: {
    "/api/devices": {
      get: {
        operationId: "Devices",
        tags: ["devices"],
        summary: "Every stream",
        description: "All of them.",
        parameters: [],
        "x-role": "view",
        responses: { "200": { description: "Done.", content: { "application/json": { schema: { type: "array", items: { $ref: "#/components/schemas/Device" } } } } } },
      },
    },
    "/api/devices/{serial}/capture": {
      parameters: [{ $ref: "#/components/parameters/serial" }, { name: "trace", in: "header", schema: { type: "boolean" } }],
      post: {
        operationId: "Capture",
        tags: ["capture"],
        summary: "Captures an image",
        description: "JSON, or the image.",
        parameters: [{ name: "trace", in: "header", required: true, schema: { type: "string", examples: ["x1"] } }],
        requestBody: { required: true, content: { "application/json": { schema: { $ref: "#/components/schemas/CaptureRequest" }, example: { format: "jpeg" } } } },
        "x-role": "capture",
        "x-errors": [{ code: "CAPTURE_TIMEOUT", status: 504, description: "No frame arrived." }],
        responses: {
          "200": {
            description: "Done.",
            headers: { "X-Capture-Id": { description: "Its name.", schema: { type: "string" } } },
            content: { "image/jpeg": {}, "application/json": { schema: { $ref: "#/components/schemas/Result" } } },
          },
          "504": { $ref: "#/components/responses/Late" },
        },
      },
    },
    "/api/ws/capture/{serial}": {
      get: {
        operationId: "CaptureSocket",
        tags: ["capture"],
        "x-role": "capture",
        responses: { "101": { description: "It is open." }, "404": { description: "UNKNOWN_DEVICE" } },
        "x-websocket": {
          client: [message("text", "A request.", { $ref: "#/components/schemas/CaptureRequest" })],
          server: [
            message("text", "The image was captured.", { $ref: "#/components/schemas/Result" }),
            message("binary", "The image.", { type: "string", contentMediaType: "image/*" }),
          ],
          closes: [{ code: 1001, reason: "The gateway shuts down." }],
          errors: [{ code: "CAPTURE_BUSY", status: 503, description: "Too many wait." }],
        },
      },
    },
    "/api/events": {
      get: {
        tags: ["devices"],
        responses: { "200": { description: "Events.", content: { "text/event-stream": { schema: { type: "string" } } } } },
        "x-events": [{ name: "hello", description: "First." }],
      },
    },
    "/live/{stream}/{transport}": {
      get: {
        operationId: "Capture",
        responses: { "200": { description: "Bytes." }, "101": { description: "Open." } },
        "x-websocket": { client: [], server: [], closes: [] },
      },
    },
  },
  components: {
    parameters: { serial: { name: "serial", in: "path", required: true, description: "Which.", schema: { type: "string" } } },
    responses: { Late: { description: "Too late.", content: { "application/json": { schema: { $ref: "#/components/schemas/Failure" } } } } },
    schemas: {
      CaptureRequest: {
        type: "object",
        properties: {
          format: { type: "string", enum: ["jpeg", "png"], default: "jpeg", description: "Format of the image." },
          quality: { type: ["integer", "null"], format: "uint8", minimum: 1, maximum: 100 },
        },
        additionalProperties: false,
      },
      Device: {
        type: "object",
        required: ["serial"],
        properties: {
          serial: { type: "string" },
          state: { $ref: "#/components/schemas/State", description: "Its state." },
          audio: { anyOf: [{ $ref: "#/components/schemas/Device" }, { type: "null" }], description: "Its audio." },
          labels: { type: "object", additionalProperties: { type: "array", items: { type: "number" } } },
        },
      },
      State: { oneOf: [{ const: "live", type: "string", description: "Frames arrive." }, { const: "idle", type: "string" }] },
      Result: { type: "object", properties: { type: { const: "capture_result" } } },
      Failure: { type: "object", properties: { code: { type: "string" } } },
    },
  },
};
