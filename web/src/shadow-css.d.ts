// The bundler turns an element's own stylesheet into a string.
declare module "*.shadow.css" {
  const text: string;
  export default text;
}
