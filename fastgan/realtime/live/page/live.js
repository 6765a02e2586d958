// What every live page has: the connection, the picture, the plots. walk.js and images.js have the
// controls of the two kinds of models.
"use strict";
const $ = id => document.getElementById(id);
const canvas = $("picture"), pen = canvas.getContext("2d");
const HEADER = 32;                       // as in live_page.py: index, position, time, compute
const token = new URLSearchParams(location.search).get("token");
let socket, hello, type = "image/jpeg", frame = null, drawing = false;
const shown = {index: -1, position: 0};  // what the canvas holds
const clock = () => performance.timeOrigin + performance.now();

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/frames` + (token ? `?token=${encodeURIComponent(token)}` : ""));
  socket.binaryType = "arraybuffer";
  socket.onopen = () => state(true, "live");
  socket.onclose = event => {
    if (event.code === 1009) say("what was sent is too large");
    state(false, "gone, trying again");
    setTimeout(connect, 1000);
  };
  socket.onmessage = event => typeof event.data === "string" ? hear(JSON.parse(event.data)) : receive(event.data);
}
const ask = what => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(what));
function state(on, text) {
  $("state").classList.toggle("on", on);
  $("state").lastElementChild.textContent = text;
}

// Frames: of those that come while one is being drawn, the newest is drawn next.
function receive(data) { frame = data; if (!drawing) draw(); }
async function draw() {
  drawing = true;
  while (frame) {
    const view = new DataView(frame), blob = new Blob([new Uint8Array(frame, HEADER)], {type});
    frame = null;
    try {
      const bitmap = await createImageBitmap(blob, {colorSpaceConversion: "none"});
      if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
        canvas.width = bitmap.width; canvas.height = bitmap.height;
        canvas.style.aspectRatio = `${bitmap.width} / ${bitmap.height}`;
      }
      pen.drawImage(bitmap, 0, 0);
      bitmap.close();
      shown.index = Number(view.getBigUint64(0, true));
      shown.position = view.getFloat64(8, true);
      if (!hello?.takes || images.came(shown.position)) latency.add(clock() - view.getFloat64(16, true));
      rate.tick(performance.now());
    } catch (error) { say(`a frame could not be drawn: ${error.message}`); }
  }
  drawing = false;
}

// What the server says.
function hear(note) {
  if (note.hello) begin(note.hello);
  if (note.state) follow(note.state);
  if (note.stats) report(note.stats);
  if (note.says !== undefined) say(note.says);
  if (note.error) say(note.error);
  if (note.of === "picture") images.failed();
  if (note.recorded) {
    const link = document.createElement("a");
    link.href = `/recordings/${encodeURIComponent(note.recorded.name)}`;
    link.textContent = note.recorded.path;
    $("message").replaceChildren("Recorded ", link);
  }
}
const say = text => { $("message").textContent = text; };
function begin(what) {
  hello = what; type = what.type;
  document.title = `${what.model}: fastgan live`;
  $("model").textContent = what.model;
  const several = what.models.length > 1;
  $("model").hidden = several; $("models").hidden = !several;
  $("models").replaceChildren(...what.models.map(name => new Option(name)));
  $("models").value = what.model;
  $("runs").textContent = what.runs;
  document.body.className = what.takes ? "images" : "walks";
  for (const part of document.querySelectorAll(".walk")) part.hidden = Boolean(what.takes);
  for (const part of document.querySelectorAll(".image")) part.hidden = !what.takes;
  (what.takes ? images : walk).begin(what);
  classes(what);
  follow(what);
}
function follow(now) {
  pressed("pause", now.paused); $("pause").textContent = now.paused ? "Go on" : "Pause";
  pressed("record", now.recording); $("record").textContent = now.recording ? "Stop" : "Record";
  if (document.activeElement !== $("seed")) $("seed").value = now.seed;
  if (!hello.takes) walk.follow(now);
}
$("models").onchange = () => ask({model: $("models").value});
const pressed = (id, on) => $(id).setAttribute("aria-pressed", String(Boolean(on)));
function report(stats) {
  if (!stats.compute) return;
  const row = (...cells) => { const r = document.createElement("tr");
    for (const cell of cells) r.insertCell().textContent = cell; return r; };
  const ms = value => value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2);
  $("times").replaceChildren(...[["compute", stats.compute], ["queueing", stats.queueing], ["lateness", stats.delivery]]
    .map(([name, p]) => row(name, ms(p.p50), ms(p.p95), ms(p.p99), ms(p.max))));
  const counts = hello.takes ? ["fed", "unused", "produced", "delivered", "dropped", "missed"]
    : ["produced", "delivered", "dropped", "skipped", "missed"];
  $("counts").replaceChildren(...counts.map(name => row(name, stats[name])));
}

// Classes: weights where the model mixes them, else a choice.
function classes({classes, mixes}) {
  const box = $("classes");
  box.replaceChildren(); box.hidden = !classes.length;
  if (!classes.length) return;
  if (!mixes || classes.length > 24) {
    const select = document.createElement("select");
    select.setAttribute("aria-label", "Class");
    classes.forEach((name, i) => select.add(new Option(name, i)));
    select.onchange = () => ask({labels: Number(select.value)});
    box.append(select);
    return;
  }
  classes.forEach((name, i) => {
    const label = document.createElement("label");
    label.className = "field";
    label.innerHTML = "<span></span><input type=range min=0 max=1 step=0.01 value=0>";
    label.firstChild.textContent = name;
    label.lastChild.dataset.index = i;
    label.lastChild.oninput = soon("labels", () => {
      const weights = {};
      for (const input of box.querySelectorAll("input")) if (Number(input.value) > 0) weights[input.dataset.index] = Number(input.value);
      if (Object.keys(weights).length) ask({labels: weights});
    });
    box.append(label);
  });
}

// Controls. What a slider says is sent at most once per picture shown.
const waiting = {};
function soon(name, act) {
  return () => { if (!waiting[name]) requestAnimationFrame(() => { waiting[name] = false; act(); }); waiting[name] = true; };
}
$("pause").onclick = () => ask({pause: $("pause").getAttribute("aria-pressed") !== "true"});
$("record").onclick = () => ask({record: $("record").getAttribute("aria-pressed") !== "true"});
$("dice").onclick = () => ask({seed: Math.floor(Math.random() * 2 ** 32)});
$("seed").onchange = () => { if ($("seed").value !== "") ask({seed: Number($("seed").value)}); };
$("smooth").onclick = () => pressed("smooth", $("stage").classList.toggle("smooth"));
addEventListener("keydown", event => {
  if (["INPUT", "SELECT", "BUTTON"].includes(event.target.tagName)) return;
  if ("Enter ".includes(event.key) && event.target.tagName === "LABEL") return event.target.click();
  if (event.key === " ") { event.preventDefault(); $("pause").click(); }
  if (event.key === "ArrowRight") $("step").click();
  if (event.key === "ArrowLeft") $("back").click();
});

// Plots: the last so many values, their largest on top.
class Plot {
  constructor(id, unit) { this.canvas = $(id); this.text = $(`${id}-is`); this.values = []; this.unit = unit; }
  add(value) { this.values.push(value); if (this.values.length > 240) this.values.shift(); }
  draw() {
    const {canvas, values} = this, scale = devicePixelRatio || 1;
    const w = canvas.width = canvas.clientWidth * scale, h = canvas.height = canvas.clientHeight * scale;
    if (!values.length) return;
    const pen = canvas.getContext("2d"), top = Math.max(...values) * 1.15 || 1;
    pen.strokeStyle = "#2c2b29"; pen.lineWidth = scale;
    pen.strokeRect(.5, .5, w - 1, h - 1);
    pen.strokeStyle = "#f2a65a"; pen.lineWidth = 1.5 * scale; pen.lineJoin = "round";
    pen.beginPath();
    values.forEach((v, i) => pen.lineTo(w * i / 239, h - h * v / top));
    pen.stroke();
    pen.fillStyle = "#8f8b83"; pen.font = `${10 * scale}px sans-serif`;
    pen.fillText(top.toFixed(top < 10 ? 1 : 0), 4 * scale, 12 * scale);
    const middle = [...values].sort((a, b) => a - b)[values.length >> 1];
    this.text.textContent = middle.toFixed(middle < 100 ? 1 : 0);
  }
}
const latency = new Plot("latency"), rate = new Plot("fps");
rate.times = [];
rate.tick = now => {
  rate.times.push(now);
  while (rate.times.length > 2 && rate.times[0] < now - 1000) rate.times.shift();
  if (rate.times.length > 2) rate.add((rate.times.length - 1) * 1000 / (now - rate.times[0]));
};
setInterval(() => { latency.draw(); rate.draw(); }, 200);
addEventListener("load", connect);       // once all scripts are there
