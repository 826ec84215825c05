// Renders one operation: required role, parameters, request body, responses and messages.

import { element } from "../page/dom";
import type { OperationResponse, Body, Code, Content, Message, Operation, Parameter } from "./api_description";
import { blockNodes, codeNode } from "./markdown_view";
import { schemaNode, typeSummary } from "./schema_view";

const ROLES: Readonly<Record<string, string>> = {
  public: "No permission required.",
  view: "Requires permission to view.",
  capture: "Requires permission to capture.",
  admin: "Administrators only: requests from the gateway's own machine.",
};

export function operationNode(operation: Operation, known: ReadonlySet<string>): HTMLElement {
  const { id, methods, path, role, summary, socket } = operation;
  const link = element("a", { href: `#${id}` }, ...methods.flatMap((method) => [methodNode(method), " "]), element("code", { class: "path" }, ...breakable(path)));
  const roleNode = role === "" ? [] : [element("span", { class: "role", "data-role": role, title: ROLES[role] ?? "" }, role)];
  const node = element("article", { class: "operation", id, "aria-labelledby": `${id}-title` });
  node.append(element("header", {}, element("h3", { id: `${id}-title` }, link), ...roleNode));
  if (operation.deprecated) node.append(element("p", { class: "deprecated" }, "Deprecated: will be removed."));
  if (summary !== "") node.append(element("p", { class: "summary" }, summary));
  node.append(...blockNodes(operation.description));
  if (operation.parameters.length > 0) node.append(part("Parameters", parametersTable(operation.parameters, known)));
  if (operation.body !== null) node.append(part(operation.body.required ? "Request body" : "Request body, optional", ...bodyNodes(operation.body, known)));
  if (operation.responses.length > 0) node.append(part("Responses", ...operation.responses.map((response) => responseNode(response, known))));
  if (operation.events.length > 0) node.append(part("Events", ...messageNodes(operation.events, known)));
  if (socket !== null) {
    node.append(...blockNodes(socket.description));
    // If neither side has messages here, they depend on the transport, as the description explains.
    if (socket.client.length + socket.server.length > 0) {
      node.append(part("The client sends", ...messageNodes(socket.client, known)), part("The gateway sends", ...messageNodes(socket.server, known)));
    }
    if (socket.closes.length > 0) node.append(part("Close codes", codesTable(socket.closes, "Code")));
  }
  if (operation.errors.length > 0) node.append(part("Error codes", codesTable(operation.errors, "Code")));
  return node;
}

export function methodNode(method: string): HTMLElement {
  return element("span", { class: "method", "data-method": method }, method);
}

/** Allows a line break after each slash of a path. */
export function breakable(path: string): (Node | string)[] {
  return path.split(/(?<=\/)/).flatMap((piece) => [piece, element("wbr")]);
}

function part(title: string, ...content: Node[]): HTMLElement {
  return element("section", { class: "part" }, element("h4", {}, title), ...content);
}

function parametersTable(parameters: readonly Parameter[], known: ReadonlySet<string>): HTMLElement {
  const rows = parameters.map(({ name, location, required, schema, description }) => {
    const must = required ? [" ", element("span", { class: "required" }, "required")] : [];
    const texts = description.length > 0 ? description : schema.description;
    return [[element("code", { class: "name" }, name), ...must], [location], [...typeSummary(schema, known)], blockNodes(texts)];
  });
  return table(["Name", "In", "Type", ""], rows);
}

function bodyNodes({ description, contents }: Body, known: ReadonlySet<string>): Node[] {
  return [...blockNodes(description), ...contents.map((content) => contentNode(content, known))];
}

function responseNode({ status, description, headers, contents }: OperationResponse, known: ReadonlySet<string>): HTMLElement {
  const tone = /^[123]/.test(status) ? "good" : "bad";
  const about = element("div", { class: "about" }, ...blockNodes(description));
  if (headers.length > 0) about.append(headersTable(headers, known));
  about.append(...contents.map((content) => contentNode(content, known)));
  return element("div", { class: "response" }, element("code", { class: "status", "data-tone": tone }, status), about);
}

function headersTable(headers: readonly Parameter[], known: ReadonlySet<string>): HTMLElement {
  const rows = headers.map(({ name, schema, description }) => {
    const texts = description.length > 0 ? description : schema.description;
    return [[element("code", { class: "name" }, name)], [...typeSummary(schema, known)], blockNodes(texts)];
  });
  return table(["Header", "Type", ""], rows);
}

function contentNode({ type, schema, examples }: Content, known: ReadonlySet<string>): HTMLElement {
  const node = element("div", { class: "content" }, element("code", { class: "media" }, type));
  if (schema !== null) node.append(schemaNode(schema, known));
  node.append(...examples.map(codeNode));
  return node;
}

function messageNodes(messages: readonly Message[], known: ReadonlySet<string>): Node[] {
  if (messages.length === 0) return [element("p", { class: "none" }, "No messages.")];
  return messages.map(({ name, description, schema, examples }) => {
    const node = element("div", { class: "message" }, element("h5", {}, element("code", {}, name)), ...blockNodes(description));
    if (schema !== null) node.append(schemaNode(schema, known));
    node.append(...examples.map(codeNode));
    return node;
  });
}

/** Table of codes; it has a status column only if there is a status. */
function codesTable(codes: readonly Code[], head: string): HTMLElement {
  const withStatus = codes.some(({ status }) => status !== "");
  const rows = codes.map(({ code, status, description }) => [
    [element("code", {}, code)],
    ...(withStatus ? [[status]] : []),
    blockNodes(description),
  ]);
  return table(withStatus ? [head, "Status", "Meaning"] : [head, "Meaning"], rows);
}

function table(heads: readonly string[], rows: readonly (readonly (readonly (Node | string)[])[])[]): HTMLElement {
  const headCells = heads.map((head) => element("th", { scope: "col" }, ...(head === "" ? [element("span", { class: "visually-hidden" }, "Description")] : [head])));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, ...cell))));
  return element("table", {}, element("thead", {}, element("tr", {}, ...headCells)), element("tbody", {}, ...body));
}
