
"use strict";
const command = /** @type {HTMLElement} */ (document.getElementById("command"));
const boxes = /** @type {HTMLInputElement[]} */ ([...document.querySelectorAll("input[type=checkbox]")]);
function tell() {
  const items = new Map();
  for (const box of boxes) {
    const item = items.get(box.dataset.item) || { all: true, hunks: [] };
    items.set(box.dataset.item, item);
    if (box.checked) item.hunks.push(box.dataset.hunk); else item.all = false;
  }
  const chosen = [];
  for (const [number, item] of items) {
    if (item.all) chosen.push(number);
    else for (const hunk of item.hunks) chosen.push(`${number}.${hunk}`);
  }
  const whole = boxes.length && boxes.every((box) => box.checked) && !document.querySelector(".refused");
  const words = whole ? ["all"] : chosen;
  command.textContent = `proxybox review ${command.dataset.id}` + words.map((word) => ` --accept ${word}`).join("");
}
for (const box of boxes) box.addEventListener("change", tell);
