// The door: asks for the service's key when it wants one.

import { guard } from "./api.js";
import { $ } from "./dom.js";
import { say } from "./words.js";

const door = $("door");

guard((refused) => {
  if (refused) say($("refused"), "key-wrong");
  $("refused").hidden = !refused;
  door.returnValue = "";
  $("key").value = "";
  door.showModal();
  return new Promise((give) => {
    const closed = () => give(door.returnValue === "given" ? $("key").value : null);
    door.addEventListener("close", closed, { once: true });
  });
});

$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  door.close("given");
});
