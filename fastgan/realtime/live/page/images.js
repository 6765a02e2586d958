// Pictures and a camera for an image-to-image model; a mask painted on them, and a style.
"use strict";
const PICTURE = 0, CAMERA = 1, MASK = 2, STYLE = 3;   // as in live_images.py, and so is SENT
const SENT = 20, MOST_FLYING = 2, LOST = 2000;
const source = $("source"), paint = $("paint"), brush = paint.getContext("2d");
const hole = document.createElement("canvas"), holes = hole.getContext("2d");
const video = document.createElement("video");
video.muted = video.playsInline = true;

const images = {
  number: Math.floor(Math.random() * 2 ** 31) * 2 ** 20,  // no other page's
  flying: [],                                             // frames of the camera, sent and not shown
  begin({takes}) {
    $("given").hidden = false;
    $("style-row").hidden = !takes.style;
    $("seeds").hidden = !takes.seed;
    $("brush-row").hidden = $("mask-hint").hidden = paint.hidden = !takes.mask;
    $("latency-of").textContent = "Sent to shown, ms";
  },
  // A result has come: whether it is of a picture of this page.
  came(number) {
    this.flying = this.flying.filter(sent => sent.number > number);
    return Math.floor(number / 2 ** 20) === Math.floor(this.number / 2 ** 20);
  },
  // One of its pictures was refused: the next frame would be, too.
  failed() { this.flying = []; stop(); },
};

function send(kind, bytes) {
  if (socket.readyState !== WebSocket.OPEN) return;
  const {bytes: most} = hello.takes;
  if (bytes.byteLength > most) return say(`${bytes.byteLength} bytes are too many: at most ${most} may be sent`);
  const message = new Uint8Array(SENT + bytes.byteLength), view = new DataView(message.buffer);
  view.setUint32(0, kind, true);
  view.setFloat64(4, ++images.number, true);
  view.setFloat64(12, clock(), true);
  message.set(new Uint8Array(bytes), SENT);
  socket.send(message);
  return images.number;
}
const bytesOf = (canvas, type, quality) => new Promise((done, fail) => canvas.toBlob(
  blob => blob ? done(blob.arrayBuffer()) : fail(new Error("the browser could not encode it")), type, quality));

// The size that a picture is sent at.
function sizeOf(width, height) {
  const side = Number($("side").value), scale = side ? Math.min(1, side / Math.max(width, height)) : 1;
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}
function show(what, width, height) {
  if (source.width !== width || source.height !== height) {
    source.width = paint.width = hole.width = width;
    source.height = paint.height = hole.height = height;
    source.style.aspectRatio = paint.style.aspectRatio = `${width} / ${height}`;
    holes.fillRect(0, 0, width, height);
  }
  $("given").classList.remove("empty");
  source.getContext("2d").drawImage(what, 0, 0, width, height);
}

// Pictures: as their file has them, unless they are too large to be sent so.
async function open(file, kind) {
  if (!file) return;
  let bitmap;
  try { bitmap = await createImageBitmap(file, {colorSpaceConversion: "none"}); }
  catch { return say(`${file.name || "this"} is no picture that the browser can read`); }
  const {width, height} = bitmap, {pixels: most} = hello.takes;
  const [w, h] = sizeOf(width, height);
  if (w * h > most) return say(`${w} x ${h} pixels are too many: at most ${most}; choose a longest side`);
  say(w < width ? `sent at ${w} x ${h} pixels` : "");
  if (kind === PICTURE) {
    stop();
    wipe();
    show(bitmap, w, h);
  }
  const known = ["image/png", "image/jpeg", "image/webp"].includes(file.type);
  if (known && w === width) return send(kind, await file.arrayBuffer());
  const scaled = document.createElement("canvas");
  scaled.width = w; scaled.height = h;
  scaled.getContext("2d").drawImage(bitmap, 0, 0, w, h);
  send(kind, await bytesOf(scaled, "image/png"));
}
for (const [id, kind] of [["file", PICTURE], ["style", STYLE]]) {
  $(id).onchange = async () => { await open($(id).files[0], kind); $(id).value = ""; };
}
addEventListener("paste", event => { if (hello?.takes) open(event.clipboardData.files[0], PICTURE); });
addEventListener("dragover", event => { event.preventDefault(); document.body.classList.toggle("over", Boolean(hello?.takes)); });
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (hello?.takes) open(event.dataTransfer.files[0], PICTURE);
});

// The camera: a frame is sent when one of the last two has come back, so that none waits long.
let filming = null;
$("camera").onclick = async () => {
  if (filming) return stop();
  try {
    if (!navigator.mediaDevices) throw new Error("browsers give it to pages of this machine, or by https, alone");
    filming = video.srcObject = await navigator.mediaDevices.getUserMedia({video: true});
    await video.play();
  } catch (error) { stop(); return say(`no camera: ${error.message}`); }
  wipe();
  pressed("camera", true);
  film(filming);
};
function stop() {
  for (const track of filming?.getTracks() ?? []) track.stop();
  filming = video.srcObject = null;
  pressed("camera", false);
}
async function film(stream) {
  const period = 1000 / (hello.fps || 30);
  let next = performance.now();
  while (filming === stream) {
    next = Math.max(next + period, performance.now());
    const now = clock();
    images.flying = images.flying.filter(sent => sent.at > now - LOST);
    if (images.flying.length < MOST_FLYING && !socket.bufferedAmount && video.videoWidth) {
      const [w, h] = sizeOf(video.videoWidth, video.videoHeight);
      show(video, w, h);
      const bytes = await bytesOf(source, "image/jpeg", 0.9);
      if (filming !== stream) break;
      const number = send(CAMERA, bytes);
      if (number) images.flying.push({number, at: now});
    }
    await new Promise(done => setTimeout(done, next - performance.now()));
  }
}

// The mask: painted in colour over the picture, and in white on black for the model.
function wipe() {
  brush.clearRect(0, 0, paint.width, paint.height);
  holes.fillStyle = "#000";
  holes.fillRect(0, 0, hole.width, hole.height);
}
function stroke(from, to) {
  const width = Number($("brush").value) / 100 * Math.max(paint.width, paint.height);
  for (const [pen, colour] of [[brush, "#f2a65a"], [holes, "#fff"]]) {
    pen.strokeStyle = colour; pen.lineWidth = width; pen.lineCap = "round";
    pen.beginPath(); pen.moveTo(...from); pen.lineTo(...to); pen.stroke();
  }
  cut();
}
let cutting = false, again = false;
async function cut() {
  if (cutting) { again = true; return; }
  cutting = true;
  do { again = false; send(MASK, await bytesOf(hole, "image/png")); } while (again);
  cutting = false;
}
function place(event) {  // a tall picture has bars at its sides
  const scale = Math.min(paint.clientWidth / paint.width, paint.clientHeight / paint.height);
  return [(event.offsetX - (paint.clientWidth - paint.width * scale) / 2) / scale,
    (event.offsetY - (paint.clientHeight - paint.height * scale) / 2) / scale];
}
let last = null;
paint.onpointerdown = event => { paint.setPointerCapture(event.pointerId); last = place(event); stroke(last, last); };
paint.onpointermove = event => { if (last && event.buttons) { const here = place(event); stroke(last, here); last = here; } };
paint.onpointerup = paint.onpointercancel = () => { last = null; };
$("clear").onclick = () => { wipe(); cut(); };
$("brush").oninput = () => { $("brush-is").textContent = `${$("brush").value} %`; };
$("brush").oninput();
