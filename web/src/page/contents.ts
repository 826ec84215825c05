// The collapsible table of contents of a long page.

const wide = matchMedia("(min-width: 60rem)");

/** Keeps the contents open on wide screens; on phones they are collapsed, and close after a selection. */
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
