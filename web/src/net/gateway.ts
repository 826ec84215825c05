// URLs of the gateway that served this script from its `assets/`, wherever a proxy shows it.

/** The gateway's first page: `https://home.example/cams/`. */
export const GATEWAY = new URL("..", import.meta.url);

/** What the gateway has at a path, such as `api/devices`. */
export function gatewayUrl(path: string): URL {
  return new URL(path, GATEWAY);
}
