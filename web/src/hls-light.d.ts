// hls.js without the features that live video does not need; it has the same types as the full build.
declare module "hls.js/light" {
  export * from "hls.js";
  export { default } from "hls.js";
}
