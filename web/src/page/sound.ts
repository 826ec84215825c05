// Stores in this browser whether audio is on, for all streams.

import type { SluicegatePlayer } from "../player/element";
import { MUTED, remember, remembered } from "./remember";

/** Restores the player's mute setting, and stores its changes. */
export function keepMuted(player: SluicegatePlayer): void {
  player.muted = remembered(MUTED) !== "false";
  player.addEventListener("sluicegate-muted", (event) => {
    remember(MUTED, (event as CustomEvent<boolean>).detail ? null : "false");
  });
}
