// Renders the document: table of contents, groups of operations, schemas. The filter shows and hides entries.

import { element, setText } from "../page/dom";
import { counted } from "../page/format";
import { type Group, type ApiDescription, matches, schemaId } from "./api_description";
import { blockNodes } from "./markdown_view";
import { breakable, methodNode, operationNode } from "./operation_view";
import { schemaNode } from "./schema_view";

/** An entry that the filter shows or hides, with its elements in contents and text. */
interface Entry {
  readonly searchText: string;
  readonly nodes: readonly HTMLElement[];
}

export class ApiView {
  readonly contents = element("ul", { class: "contents" });
  readonly text = element("div", { class: "text" });
  /** Groups with their entries; a group without visible entries is hidden. */
  readonly #groups: { readonly nodes: readonly HTMLElement[]; readonly entries: readonly Entry[] }[] = [];
  readonly #status: HTMLElement;

  /** `status` displays the number of matches. */
  constructor(description: ApiDescription, status: HTMLElement) {
    this.#status = status;
    const known = new Set(description.schemas.map(({ name }) => name));
    for (const group of description.groups) this.#addGroup(group, known);
    if (description.schemas.length > 0) this.#addSchemas(description, known);
    this.filter("");
  }

  /** Shows only the entries that contain all of the words. */
  filter(query: string): void {
    let count = 0;
    for (const { nodes, entries } of this.#groups) {
      const matching = entries.filter(({ searchText }) => matches(searchText, query));
      for (const one of entries) for (const node of one.nodes) node.hidden = !matching.includes(one);
      for (const node of nodes) node.hidden = matching.length === 0;
      count += matching.length;
    }
    setText(this.#status, query.trim() === "" ? "" : count === 0 ? "No entry contains all of these words." : counted(count, "entry", "entries"));
  }

  #addGroup({ id, name, description, operations }: Group, known: ReadonlySet<string>): void {
    const section = element("section", { class: "group", id, "aria-labelledby": `${id}-title` }, element("h2", { id: `${id}-title` }, name), ...blockNodes(description));
    const list = element("ul");
    const found = operations.map((operation) => {
      const node = operationNode(operation, known);
      const entry = element("li", {}, element("a", { href: `#${operation.id}` }, methodNode(operation.methods[0] ?? ""), element("code", {}, ...breakable(operation.path))));
      section.append(node);
      list.append(entry);
      return { searchText: operation.searchText, nodes: [node, entry] };
    });
    this.#add(id, name, section, list, found);
  }

  #addSchemas({ schemas }: ApiDescription, known: ReadonlySet<string>): void {
    const id = "schemas";
    const section = element("section", { class: "group", id, "aria-labelledby": `${id}-title` }, element("h2", { id: `${id}-title` }, "Schemas"));
    const list = element("ul");
    const found = schemas.map(({ name, schema }) => {
      const own = schemaId(name);
      const node = element("article", { class: "operation", id: own }, element("h3", {}, element("a", { href: `#${own}` }, name)), schemaNode(schema, known));
      const entry = element("li", {}, element("a", { href: `#${own}` }, name));
      section.append(node);
      list.append(entry);
      return { searchText: `${name}\n${schema.properties.map((property) => property.name).join("\n")}`.toLowerCase(), nodes: [node, entry] };
    });
    this.#add(id, "Schemas", section, list, found);
  }

  #add(id: string, name: string, section: HTMLElement, list: HTMLElement, entries: readonly Entry[]): void {
    const entry = element("li", {}, element("a", { class: "of", href: `#${id}` }, name), list);
    this.contents.append(entry);
    this.text.append(section);
    this.#groups.push({ nodes: [section, entry], entries });
  }
}
