// The bundler imports an element's stylesheet as a string.
declare module "*.shadow.css" {
  const text: string;
  export default text;
}
