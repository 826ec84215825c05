// Answers `/api/streams` for a page as the gateway documents it, with streams of its own.

/** Answers requests of `page` below `base`, the URL of the list, which holds `streams` first. */
export async function fakeStreams(page, base, streams) {
  const known = new Map(streams.map((stream) => [stream.name, stream]));
  const list = () => [...known.values()].sort((a, b) => (a.name < b.name ? -1 : 1));

  const put = (name, { source, ...settings }) => {
    const before = known.get(name);
    if (/[/\\?#%@]/.test(name)) return [400, { error: `\`${name}\` is not a valid stream name: use letters, digits, \`-\`, \`_\` and \`.\`` }];
    if (before !== undefined && before.kept !== "state") return [409, { error: `the stream ${name} is in the config file; change it there` }];
    if (before === undefined && source === undefined) return [422, { error: "the key `source` is missing" }];
    const shown = source?.replace(/:\/\/[^@/]*@/, "://").replace(/^(\w+:\/\/[^/]+\/).+$/, "$1…");
    const stream = { name, kept: "state", source: shown ?? before.source, settings };
    known.set(name, stream);
    return [before === undefined ? 201 : 200, stream];
  };

  const answer = (method, name, body) => {
    if (name === null) return [200, list()];
    if (method === "PUT") return put(name, body);
    const removed = known.get(name);
    known.delete(name);
    return removed === undefined ? [404, { error: `there is no stream \`${name}\`` }] : [200, removed];
  };

  await page.route(
    (url) => url.href === base || url.href.startsWith(`${base}/`),
    (route) => {
      const request = route.request();
      const name = request.url() === base ? null : decodeURIComponent(request.url().slice(base.length + 1));
      const [status, json] = answer(request.method(), name, request.postDataJSON());
      return route.fulfill({ status, json });
    },
  );
}
