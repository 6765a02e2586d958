// The controls of a walk through latent space.
"use strict";
const walk = {
  begin(what) { $("truncation-field").hidden = !what.truncates; },
  follow(now) {
    slide("speed", now.speed, now.speed.toFixed(2));
    slide("truncation", now.truncation ?? 4, now.truncation === null ? "off" : now.truncation.toFixed(2));
  },
};
function slide(id, value, text) {
  if (document.activeElement !== $(id)) $(id).value = value;
  $(`${id}-is`).textContent = text;
}
$("step").onclick = () => ask({step: 1});
$("back").onclick = () => ask({step: -1});
$("walk").onchange = () => ask({walk: $("walk").value});
$("speed").oninput = soon("speed", () => ask({speed: Number($("speed").value)}));
$("truncation").oninput = soon("truncation", () => {
  const value = Number($("truncation").value);
  ask({truncation: value >= 4 ? null : value});
});

let drag = [0, 0];
const push = soon("drag", () => { ask({drag}); drag = [0, 0]; });
canvas.onpointerdown = event => { if (!hello?.takes) canvas.setPointerCapture(event.pointerId); };
canvas.onpointermove = event => {
  if (!canvas.hasPointerCapture(event.pointerId)) return;
  const size = canvas.clientWidth;       // once across is half around latent space
  drag = [drag[0] + event.movementX / size * Math.PI, drag[1] + event.movementY / size * Math.PI];
  push();
};
