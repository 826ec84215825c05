// Stores in this browser whether audio is on, for all streams.

import type { SluicegatePlayer } from "../player/element";
import { MUTED, saveSetting, loadSetting } from "./settings";

/** Restores the player's mute setting, and stores its changes. */
export function persistMuted(player: SluicegatePlayer): void {
  player.muted = loadSetting(MUTED) !== "false";
  player.addEventListener("sluicegate-muted", (event) => {
    saveSetting(MUTED, (event as CustomEvent<boolean>).detail ? null : "false");
  });
}
