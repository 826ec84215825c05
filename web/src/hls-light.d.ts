// hls.js without what live pictures do not need; its types come with the whole.
declare module "hls.js/light" {
  export * from "hls.js";
  export { default } from "hls.js";
}
