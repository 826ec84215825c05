// Parses an OpenAPI 3.1 document into the structure that the API page renders. Missing or malformed parts are
// skipped. Pure.

import { list, object, text, texts } from "../net/json";
import { type Block, blocks } from "./markdown";
import { readSchema, type Schema } from "./schema";

export interface ApiDescription {
  readonly title: string;
  readonly version: string;
  readonly description: readonly Block[];
  readonly groups: readonly Group[];
  readonly schemas: readonly { readonly id: string; readonly name: string; readonly schema: Schema }[];
}

/** The operations with one tag. */
export interface Group {
  readonly id: string;
  readonly name: string;
  readonly description: readonly Block[];
  readonly operations: readonly Operation[];
}

export interface Operation {
  /** Id of its element on the page. */
  readonly id: string;
  /** HTTP methods; `WS` for a WebSocket, alone or beside `GET`. */
  readonly methods: readonly string[];
  readonly path: string;
  /** Required role: public, view, capture, admin; empty if not stated. */
  readonly role: string;
  readonly summary: string;
  readonly description: readonly Block[];
  readonly deprecated: boolean;
  readonly parameters: readonly Parameter[];
  readonly body: Body | null;
  readonly responses: readonly OperationResponse[];
  readonly socket: Socket | null;
  /** Server-sent events. */
  readonly events: readonly Message[];
  /** Codes in its error responses. */
  readonly errors: readonly Code[];
  /** Text searched by the filter, in lower case. */
  readonly searchText: string;
}

export interface Parameter {
  readonly name: string;
  /** One of path, query, header, cookie. */
  readonly location: string;
  readonly required: boolean;
  readonly schema: Schema;
  readonly description: readonly Block[];
}

export interface Body {
  readonly required: boolean;
  readonly description: readonly Block[];
  readonly contents: readonly Content[];
}

/** A media type and its schema; null if there is no schema beyond the type. */
export interface Content {
  readonly type: string;
  readonly schema: Schema | null;
  readonly examples: readonly string[];
}

export interface OperationResponse {
  readonly status: string;
  readonly description: readonly Block[];
  readonly headers: readonly Parameter[];
  readonly contents: readonly Content[];
}

/** The messages of a WebSocket. */
export interface Socket {
  readonly description: readonly Block[];
  readonly client: readonly Message[];
  readonly server: readonly Message[];
  readonly closes: readonly Code[];
}

export interface Message {
  readonly name: string;
  readonly description: readonly Block[];
  readonly schema: Schema | null;
  readonly examples: readonly string[];
}

/** An error code or close code, with its meaning. */
export interface Code {
  readonly code: string;
  /** HTTP status of an error code; empty if not stated. */
  readonly status: string;
  readonly description: readonly Block[];
}

const METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
const MAX_REFERENCES = 8;

/** Parses a document. */
export function readApiDescription(json: unknown): ApiDescription {
  const root = object(json) ?? {};
  const info = object(root["info"]) ?? {};
  const resolve = (value: unknown): Record<string, unknown> => resolved(root, value);
  const byTag = new Map<string, Operation[]>(list(root["tags"]).map((tag) => [text(tag["name"]), []]));
  const ids = new Set<string>();
  for (const [path, item] of Object.entries(object(root["paths"]) ?? {})) {
    const shared = resolve(item);
    for (const method of METHODS) {
      const operation = object(shared[method]);
      if (operation === null) continue;
      const read = readOperation(path, method, operation, shared, resolve, ids);
      const tag = texts(operation["tags"])[0] ?? "Other";
      byTag.set(tag, [...(byTag.get(tag) ?? []), read]);
    }
  }
  const about = new Map(list(root["tags"]).map((tag) => [text(tag["name"]), text(tag["description"])]));
  const groups = [...byTag].filter(([, operations]) => operations.length > 0);
  const schemas = object(object(root["components"])?.["schemas"]) ?? {};
  return {
    title: text(info["title"]) || "API",
    version: text(info["version"]),
    description: blocks(text(info["description"])),
    groups: groups.map(([name, operations]) => ({ id: `tag-${slug(name)}`, name, description: blocks(about.get(name) ?? ""), operations })),
    schemas: Object.entries(schemas).map(([name, schema]) => ({ id: schemaId(name), name, schema: readSchema(schema) })),
  };
}

/** Id of a schema's element on the page. */
export function schemaId(name: string): string {
  return `schema-${name.replace(/[^A-Za-z0-9_.-]+/g, "-")}`;
}

/** Whether `searchText` contains all words of the filter. */
export function matches(searchText: string, query: string): boolean {
  return query.toLowerCase().split(/\s+/).every((word) => searchText.includes(word));
}

function readOperation(
  path: string,
  method: string,
  operation: Record<string, unknown>,
  shared: Record<string, unknown>,
  resolve: (value: unknown) => Record<string, unknown>,
  ids: Set<string>,
): Operation {
  const socket = readSocket(object(operation["x-websocket"]));
  const role = text(operation["x-role"]);
  const parameters = readParameters(shared["parameters"], operation["parameters"], resolve);
  const errors = [...codes(object(operation["x-websocket"])?.["errors"]), ...codes(operation["x-errors"])];
  const body = object(operation["requestBody"]) === null ? null : readBody(resolve(operation["requestBody"]));
  const responses = Object.entries(object(operation["responses"]) ?? {}).map(([status, response]) => readResponse(status, resolve(response), resolve));
  const plain = responses.some(({ status }) => /^2|^default$/i.test(status));
  const methods = [...(socket === null || plain ? [method.toUpperCase()] : []), ...(socket === null ? [] : ["WS"])];
  const summary = text(operation["summary"]);
  const events = messagesOf(operation["x-events"]);
  const messages = [...(socket?.client ?? []), ...(socket?.server ?? []), ...events].map(({ name }) => name);
  const responseDescriptions = Object.values(object(operation["responses"]) ?? {}).map((response) => text(resolve(response)["description"]));
  const named = [...parameters.map(({ name }) => name), ...errors.map(({ code }) => code), ...messages];
  const words = [...methods, path, role, summary, text(operation["description"]), ...texts(operation["tags"]), ...responseDescriptions, ...named];
  return {
    id: unique(`op-${slug(text(operation["operationId"]) || `${method}-${path}`)}`, ids),
    methods,
    path,
    role,
    summary,
    description: blocks(text(operation["description"])),
    deprecated: operation["deprecated"] === true,
    parameters,
    body,
    responses,
    socket,
    events,
    errors,
    searchText: words.join("\n").toLowerCase(),
  };
}

/** Parameters of an operation; they override those of its path. */
function readParameters(shared: unknown, own: unknown, resolve: (value: unknown) => Record<string, unknown>): Parameter[] {
  const found = new Map<string, Parameter>();
  for (const entry of [...list(shared), ...list(own)]) {
    const parameter = resolve(entry);
    const [name, location] = [text(parameter["name"]), text(parameter["in"])];
    if (name === "") continue;
    found.set(`${location} ${name}`, {
      name,
      location,
      required: parameter["required"] === true,
      schema: readSchema(parameter["schema"]),
      description: blocks(text(parameter["description"])),
    });
  }
  return [...found.values()];
}

function readBody(body: Record<string, unknown>): Body {
  return { required: body["required"] === true, description: blocks(text(body["description"])), contents: readContents(body["content"]) };
}

function readResponse(status: string, response: Record<string, unknown>, resolve: (value: unknown) => Record<string, unknown>): OperationResponse {
  const headers = Object.entries(object(response["headers"]) ?? {}).map(([name, value]) => {
    const header = resolve(value);
    const required = header["required"] === true;
    return { name, location: "header", required, schema: readSchema(header["schema"]), description: blocks(text(header["description"])) };
  });
  return { status, description: blocks(text(response["description"])), headers, contents: readContents(response["content"]) };
}

function readContents(contents: unknown): Content[] {
  return Object.entries(object(contents) ?? {}).map(([type, value]) => {
    const content = object(value) ?? {};
    return { type, schema: optionalSchema(content["schema"]), examples: examplesOf(content) };
  });
}

function readSocket(socket: Record<string, unknown> | null): Socket | null {
  if (socket === null) return null;
  return {
    description: blocks(text(socket["description"])),
    client: messagesOf(socket["client"]),
    server: messagesOf(socket["server"]),
    closes: codes(socket["closes"]),
  };
}

function messagesOf(value: unknown): Message[] {
  return list(value).map((message) => ({
    name: text(message["name"]),
    description: blocks(text(message["description"])),
    schema: optionalSchema(message["schema"]),
    examples: examplesOf(message),
  }));
}

function codes(value: unknown): Code[] {
  const word = (entry: unknown): string => (typeof entry === "number" ? String(entry) : text(entry));
  return list(value).map((entry) => ({
    code: word(entry["code"]),
    status: word(entry["status"]),
    description: blocks(text(entry["description"]) || text(entry["reason"])),
  }));
}

/** Parses a schema; null if it is absent or empty. */
function optionalSchema(value: unknown): Schema | null {
  const schema = object(value);
  return schema === null || Object.keys(schema).length === 0 ? null : readSchema(schema);
}

function examplesOf(content: Record<string, unknown>): string[] {
  const many = Object.values(object(content["examples"]) ?? {}).flatMap((example) => {
    const value = object(example);
    return value !== null && "value" in value ? [value["value"]] : [];
  });
  const all = "example" in content ? [content["example"], ...many] : many;
  return all.map((value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2)));
}

/** Resolves a reference within the document; other values are returned as they are. */
function resolved(root: Record<string, unknown>, value: unknown): Record<string, unknown> {
  let at = object(value) ?? {};
  for (let count = 0; count < MAX_REFERENCES; count++) {
    const ref = text(at["$ref"]);
    if (!ref.startsWith("#/")) return at;
    const keys = ref.slice(2).split("/").map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
    const found = object(keys.reduce<unknown>((from, key) => object(from)?.[key], root));
    if (found === null) return {};
    at = found;
  }
  return {};
}

function slug(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "x";
}

function unique(id: string, used: Set<string>): string {
  let candidate = id;
  for (let count = 2; used.has(candidate); count++) candidate = `${id}-${count}`;
  used.add(candidate);
  return candidate;
}
