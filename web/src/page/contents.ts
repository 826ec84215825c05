// The contents beside a long page.

const wide = matchMedia("(min-width: 60rem)");

/** Beside the text there is always room for the contents; on a phone they open when they are wanted, and close behind a choice. */
export function followContents(contents: HTMLDetailsElement): void {
  const follow = (): void => {
    contents.open = wide.matches;
  };
  wide.addEventListener("change", follow);
  follow();
  contents.addEventListener("click", ({ target }) => {
    if (!wide.matches && target instanceof Element && target.closest("a") !== null) contents.open = false;
  });
}
