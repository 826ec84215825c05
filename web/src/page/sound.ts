// Whether the sound is turned on, kept in this browser for every stream.

import type { SluicegatePlayer } from "../player/element";
import { MUTED, remember, remembered } from "./remember";

/** A player's sound is as it was left, and stays as it is left now. */
export function keepMuted(player: SluicegatePlayer): void {
  player.muted = remembered(MUTED) !== "false";
  player.addEventListener("sluicegate-muted", (event) => {
    remember(MUTED, (event as CustomEvent<boolean>).detail ? null : "false");
  });
}
