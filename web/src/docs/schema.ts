// Parses JSON Schema (2020-12, as used by OpenAPI 3.1) into a tree for display. References are not expanded, so the
// tree is finite. Pure.

import { list, object, text, texts } from "../net/json";
import { type Block, blocks } from "./markdown";

export interface Schema {
  /** Type such as "string", "string or integer", "array"; empty for a reference or any type. */
  readonly type: string;
  /** Whether null is allowed, too. */
  readonly nullable: boolean;
  /** Name of the referenced schema. */
  readonly ref: string | null;
  readonly description: readonly Block[];
  /** Allowed values, as JSON. */
  readonly values: readonly string[];
  /** Constraints such as "format date-time", "at least 1", "default 80". */
  readonly limits: readonly string[];
  readonly properties: readonly Property[];
  /** Schema of an array's items. */
  readonly items: Schema | null;
  /** Schema of additional properties. */
  readonly others: Schema | null;
  /** Alternatives, with "one of", "any of" or "all of". */
  readonly variants: { readonly word: string; readonly schemas: readonly Schema[] } | null;
}

export interface Property {
  readonly name: string;
  readonly required: boolean;
  readonly schema: Schema;
}

const LIMITS: readonly (readonly [string, string])[] = [
  ["format", "format"],
  ["contentMediaType", "content"],
  ["contentEncoding", "encoded as"],
  ["pattern", "pattern"],
  ["minimum", "at least"],
  ["exclusiveMinimum", "more than"],
  ["maximum", "at most"],
  ["exclusiveMaximum", "less than"],
  ["multipleOf", "multiple of"],
  ["minLength", "min. length"],
  ["maxLength", "max. length"],
  ["minItems", "min. items"],
  ["maxItems", "max. items"],
  ["default", "default"],
];
const MAX_DEPTH = 24;

/** Parses a schema; anything that is not a schema allows any value. */
export function readSchema(json: unknown, depth = 0): Schema {
  const schema = object(json);
  if (schema === null || depth > MAX_DEPTH) return ANY_VALUE;
  const read = (value: unknown): Schema => readSchema(value, depth + 1);
  const ref = refName(schema["$ref"]);
  const [type, nullableType] = typeOf(schema);
  const [variants, nullableVariant] = readVariants(schema, read);
  const only = variants?.schemas.length === 1 ? variants.schemas[0] : undefined;
  const required = new Set(texts(schema["required"]));
  const own: Schema = {
    type,
    nullable: nullableType || nullableVariant,
    ref,
    description: blocks(text(schema["description"])),
    values: valuesOf(schema),
    limits: limitsOf(schema),
    properties: Object.entries(object(schema["properties"]) ?? {}).map(([name, value]) => ({ name, required: required.has(name), schema: read(value) })),
    items: object(schema["items"]) === null ? null : read(schema["items"]),
    others: object(schema["additionalProperties"]) === null ? null : read(schema["additionalProperties"]),
    variants: only === undefined ? variants : null,
  };
  return only === undefined ? own : merged(own, only);
}

/** Name of the schema in `#/components/schemas/NAME`; the reference itself if it leads elsewhere. */
export function refName(ref: unknown): string | null {
  if (typeof ref !== "string") return null;
  const found = /^#\/components\/schemas\/([^/]+)$/.exec(ref)?.[1];
  return found === undefined ? ref : found.replaceAll("~1", "/").replaceAll("~0", "~");
}

const ANY_VALUE: Schema = { type: "", nullable: false, ref: null, description: [], values: [], limits: [], properties: [], items: null, others: null, variants: null };

/** `null` among the variants is part of the type, as this is how references are made optional. */
function readVariants(schema: Record<string, unknown>, read: (value: unknown) => Schema): [Schema["variants"], boolean] {
  for (const [key, word] of [["oneOf", "one of"], ["anyOf", "any of"], ["allOf", "all of"]] as const) {
    const all = list(schema[key]);
    if (all.length === 0) continue;
    const schemas = all.filter(({ type }) => type !== "null");
    return [{ word, schemas: schemas.map(read) }, schemas.length < all.length];
  }
  return [null, false];
}

/** Merges a single variant into the schema; the schema's own values take precedence. */
function merged(own: Schema, only: Schema): Schema {
  return {
    type: own.type || only.type,
    nullable: own.nullable || only.nullable,
    ref: own.ref ?? only.ref,
    description: own.description.length > 0 ? own.description : only.description,
    values: [...own.values, ...only.values],
    limits: [...own.limits, ...only.limits],
    properties: [...own.properties, ...only.properties],
    items: own.items ?? only.items,
    others: own.others ?? only.others,
    variants: only.variants,
  };
}

function typeOf(schema: Record<string, unknown>): [string, boolean] {
  const named = typeof schema["type"] === "string" ? [schema["type"]] : texts(schema["type"]);
  const types = named.length > 0 ? named : "properties" in schema ? ["object"] : "items" in schema ? ["array"] : [];
  const some = types.filter((type) => type !== "null");
  return some.length === 0 ? [types.join(""), false] : [some.join(" or "), some.length < types.length];
}

function valuesOf(schema: Record<string, unknown>): string[] {
  if ("const" in schema) return [JSON.stringify(schema["const"])];
  return Array.isArray(schema["enum"]) ? schema["enum"].map((value) => JSON.stringify(value)) : [];
}

function limitsOf(schema: Record<string, unknown>): string[] {
  const found = LIMITS.flatMap(([key, word]) => {
    const value = schema[key];
    if (value === undefined) return [];
    return [`${word} ${typeof value === "string" ? value : JSON.stringify(value)}`];
  });
  if (schema["readOnly"] === true) found.push("read only");
  if (schema["deprecated"] === true) found.push("deprecated");
  if (schema["additionalProperties"] === false) found.push("no other properties");
  const examples = Array.isArray(schema["examples"]) ? schema["examples"] : "example" in schema ? [schema["example"]] : [];
  if (examples.length > 0) found.push(`for example ${examples.map((value) => JSON.stringify(value)).join(", ")}`);
  return found;
}
