// Renders a schema as nested lists.

import { element } from "../page/dom";
import { blockNodes } from "./markdown_view";
import { schemaId } from "./api_description";
import type { Property, Schema } from "./schema";

/** A schema with its type and contents. */
export function schemaNode(schema: Schema, known: ReadonlySet<string>): HTMLElement {
  const node = element("div", { class: "schema" }, element("p", { class: "what" }, ...typeSummary(schema, known)));
  node.append(...inner(schema, known));
  return node;
}

/** Type, values and constraints in one line. */
export function typeSummary(schema: Schema, known: ReadonlySet<string>): (Node | string)[] {
  const parts: (Node | string)[] = [element("span", { class: "type" }, ...typeNodes(schema, known))];
  if (schema.values.length === 1) parts.push(" always ", element("code", {}, schema.values[0] ?? ""));
  else schema.values.forEach((value, at) => parts.push(at === 0 ? " one of " : ", ", element("code", {}, value)));
  if (schema.limits.length > 0) parts.push(" ", element("span", { class: "limits" }, schema.limits.join(" · ")));
  return parts;
}

function inner(schema: Schema, known: ReadonlySet<string>): Node[] {
  const nodes: Node[] = [...blockNodes(schema.description)];
  if (schema.properties.length > 0) nodes.push(element("ul", {}, ...schema.properties.map((property) => propertyNode(property, known))));
  if (schema.others !== null) {
    nodes.push(element("ul", {}, element("li", {}, element("span", { class: "any" }, "any other name"), " ", ...typeSummary(schema.others, known), ...inner(schema.others, known))));
  }
  const items = deepest(schema);
  if (items !== schema) nodes.push(...inner(items, known));
  if (schema.variants !== null) {
    const variants = schema.variants.schemas.map((variant) => element("li", {}, ...typeSummary(variant, known), ...inner(variant, known)));
    nodes.push(element("p", { class: "word" }, `${schema.variants.word}:`), element("ul", {}, ...variants));
  }
  return nodes;
}

function propertyNode({ name, required, schema }: Property, known: ReadonlySet<string>): HTMLElement {
  const must = required ? [" ", element("span", { class: "required" }, "required")] : [];
  return element("li", {}, element("code", { class: "name" }, name), " ", ...typeSummary(schema, known), ...must, ...inner(schema, known));
}

/** Innermost item schema of nested arrays. */
function deepest(schema: Schema): Schema {
  let at = schema;
  while (at.items !== null) at = at.items;
  return at;
}

function typeNodes(schema: Schema, known: ReadonlySet<string>): (Node | string)[] {
  const nullable = schema.nullable ? [" or null"] : [];
  if (schema.items !== null) return ["array of ", ...typeNodes(schema.items, known), ...nullable];
  // Values and variants make the type obvious.
  const fallback = schema.values.length > 0 || schema.variants !== null ? "" : "any value";
  if (schema.ref === null) return [schema.type || fallback, ...nullable].filter((part) => part !== "");
  // A reference to a schema outside this document is not a link.
  const name = known.has(schema.ref) ? element("a", { href: `#${schemaId(schema.ref)}` }, schema.ref) : schema.ref;
  return [name, ...nullable];
}
