// The page: verifies the bundle inside it, and lets the person begin.

import { drawAbout } from "./about.js";
import { readBundle } from "./bundle.js";
import { byId, messageOf, say } from "./dom.js";
import { embeddedBundle } from "./embedded.js";
import { receiveFiles } from "./file_view.js";
import { runSelfTest } from "./self_test.js";
import { Workspace } from "./workspace.js";

async function start() {
  byId("stuck", HTMLElement).remove();
  if (!globalThis.crypto?.subtle) {
    throw new Error("browsers give cryptography only to pages by https, or from this machine");
  }
  const bundle = await readBundle(embeddedBundle());
  await runSelfTest(bundle);
  drawAbout(bundle);
  const workspace = new Workspace(bundle);
  receiveFiles(bundle, (name, table) => workspace.open(name, table));
  say("The bundle is whole, and this browser computes with it as its maker did.", "quiet");
}

start().catch((error) => {
  const failure = byId("failure", HTMLElement);
  failure.textContent = `This page will not protect anything: ${messageOf(error)}`;
  failure.hidden = false;
  say("");
});
