"use strict";
// The page of trtrun --view: shows the run, turns a pointer's path into a box in image pixels, sends orders.

const $ = (id) => document.getElementById(id);
const COLOURS = ["#56b4e9", "#f0e442", "#00c88c", "#e69f00", "#cc79a7"]; // those of runtime/video/drawing.py
const LOST = "#ff5c48";
const ON_LIGHT = ["#0072b2", "#857a00", "#007a56", "#a86400", "#a34c7b"]; // the same hues, for lines on white
const LOST_ON_LIGHT = "#b3261e";
const SHOWN_SCORES = 300;
const DRAG_PIXELS = 4; // on the screen: less is a tap

let state = { phase: "choose", size: [1, 1], boxes: [], lost: [], most: 1, least: 1 };
let drafts = [null]; // boxes drawn and not yet tracked, by target
let selected = 0;
let scores = []; // [frame, [score of each target]]

// --- the run, as the server tells it

const events = new EventSource("events");
events.onmessage = (event) => {
  const before = state.phase;
  const told = JSON.parse(event.data);
  if (told.size && (told.size[0] !== state.size[0] || told.size[1] !== state.size[1])) {
    state = told;
    stage.style.setProperty("--aspect", `${state.size[0]} / ${state.size[1]}`);
    fit();
  }
  state = told;
  scores = scores.concat(told.scores).slice(-2 * SHOWN_SCORES);
  if (state.phase !== before || before === "choose") say(WORDS[state.phase]());
  if (state.phase === "end") events.close();
  render();
};
events.onerror = () => {
  if (state.phase === "end") return;
  say("No connection to trtrun: it has ended, or the tunnel is closed.", true);
};

const WORDS = {
  choose: () => drawn() < state.least
    ? (state.most > 1 ? `Draw a box around each target (${state.least > 1 ? state.least : `up to ${state.most}`}).`
      : "Draw a box around the target.")
    : "Track starts from what is drawn; drawing again replaces it.",
  run: () => "Tracking.",
  pause: () => "Paused.",
  end: () => "The run is over.",
};
const drawn = () => drafts.filter(Boolean).length;

function say(text, wrong = false) {
  if ($("message").textContent !== text) $("message").textContent = text;
  $("message").classList.toggle("wrong", wrong);
}

async function order(words) {
  try {
    const answer = await fetch("order", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(words),
    });
    if (answer.ok) return true;
    say((await answer.text()) || "trtrun refused that.", true);
  } catch {
    say("No connection to trtrun.", true);
  }
  return false;
}

// --- where the frame lies on the screen

const stage = $("stage"), sheet = $("sheet");
let base = 1, zoom = 1, left = 0, top_ = 0;

function fit() {
  const [width, height] = state.size;
  base = Math.min(stage.clientWidth / width, stage.clientHeight / height);
  zoom = 1;
  place();
}

function place() {
  const [width, height] = state.size;
  const across = width * base * zoom, down = height * base * zoom;
  const within = (value, room, size) =>
    size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, value));
  left = within(left, stage.clientWidth, across);
  top_ = within(top_, stage.clientHeight, down);
  sheet.style.cssText = `width:${across}px;height:${down}px;transform:translate(${left}px,${top_}px)`;
  $("picture").classList.toggle("near", base * zoom > 3);
  $("drafts").setAttribute("viewBox", `0 0 ${width} ${height}`);
  $("drafts").setAttribute("preserveAspectRatio", "none");
}

/** Zoom by `factor` so that what lies under the point of the stage (x, y) stays under it. */
function zoomAt(x, y, factor) {
  const next = Math.min(Math.max(zoom * factor, 1), Math.max(1, 24 / base));
  left = x - (x - left) * next / zoom;
  top_ = y - (y - top_) * next / zoom;
  zoom = next;
  place();
}

const zoomCentre = (factor) => zoomAt(stage.clientWidth / 2, stage.clientHeight / 2, factor);

function onStage(event) {
  const frame = stage.getBoundingClientRect();
  return [event.clientX - frame.left, event.clientY - frame.top];
}

/** The image's pixel edge nearest to a point of the stage, inside the image. */
function inImage([x, y]) {
  const scale = base * zoom, [width, height] = state.size;
  const edge = (value, most) => Math.min(most, Math.max(0, Math.round(value / scale)));
  return [edge(x - left, width), edge(y - top_, height)];
}

// --- drawing: one pointer draws, two zoom and move, shift or the middle button moves

const pointers = new Map();
let stroke = null; // {from: point of the stage, before: the draft it replaces, moved}
let move = null; // the last point of the stage while the frame is moved

stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, onStage(event));
  if (pointers.size === 2) {
    if (stroke?.moved) drafts[selected] = stroke.before;
    stroke = null;
  } else if (event.button === 1 || event.shiftKey) {
    move = onStage(event);
  } else if (event.button === 0 && pointers.size === 1 && state.phase !== "end") {
    stroke = { from: onStage(event), before: drafts[selected] ?? null, moved: false };
  }
  render();
});

stage.addEventListener("pointermove", (event) => {
  if (!pointers.has(event.pointerId)) return;
  const before = [...pointers.values()];
  const now = onStage(event);
  pointers.set(event.pointerId, now);
  if (pointers.size === 2) {
    const after = [...pointers.values()];
    const spread = (pair) => Math.hypot(pair[0][0] - pair[1][0], pair[0][1] - pair[1][1]) || 1;
    const middle = (pair) => [(pair[0][0] + pair[1][0]) / 2, (pair[0][1] + pair[1][1]) / 2];
    left += middle(after)[0] - middle(before)[0];
    top_ += middle(after)[1] - middle(before)[1];
    zoomAt(...middle(after), spread(after) / spread(before));
  } else if (move) {
    left += now[0] - move[0];
    top_ += now[1] - move[1];
    move = now;
    place();
  } else if (stroke) {
    const [fromX, fromY] = stroke.from;
    if (!stroke.moved && Math.hypot(now[0] - fromX, now[1] - fromY) < DRAG_PIXELS) return;
    if (!stroke.moved && state.phase === "run") order({ do: "pause" }); // the target holds still while it is drawn
    stroke.moved = true;
    const [x0, y0] = inImage(stroke.from), [x1, y1] = inImage(now);
    drafts[selected] = [Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0)];
    render();
  }
});

function lift(event) {
  pointers.delete(event.pointerId);
  if (stroke?.moved) {
    const box = drafts[selected];
    if (event.type === "pointercancel" || box[2] < 1 || box[3] < 1) drafts[selected] = stroke.before;
    else say("Track starts from what is drawn; drawing again replaces it.");
  }
  stroke = move = null;
  render();
}
stage.addEventListener("pointerup", lift);
stage.addEventListener("pointercancel", lift);
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomAt(...onStage(event), Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
}, { passive: false });

// --- orders

async function track() {
  if (drawn() < (state.phase === "choose" ? state.least : 1)) return;
  const boxes = state.phase === "choose" ? drafts.filter(Boolean) : drafts;
  if (await order({ do: "track", boxes })) {
    drafts = boxes.map(() => null);
    selected = Math.min(selected, drafts.length - 1);
    render();
  }
}

function pauseOrResume() {
  if (state.phase === "pause") drafts = drafts.map(() => null);
  order({ do: state.phase === "pause" ? "resume" : "pause" });
}

function discard() {
  drafts[selected] = null;
  render();
}

$("track").onclick = track;
$("pause").onclick = pauseOrResume;
$("step").onclick = () => order({ do: "step" });
$("stop").onclick = () => order({ do: "stop" });
$("closer").onclick = () => zoomCentre(1.5);
$("further").onclick = () => zoomCentre(1 / 1.5);
$("fit").onclick = fit;

const KEYS = {
  Enter: track, " ": pauseOrResume, ".": () => order({ do: "step" }), Escape: discard,
  "+": () => zoomCentre(1.5), "-": () => zoomCentre(1 / 1.5), 0: fit,
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, button")) return;
  if (!(event.key in KEYS) || (event.key === " " && state.phase === "choose")) return;
  event.preventDefault();
  KEYS[event.key]();
});

const FIELDS = ["x", "y", "w", "h"];
for (const id of FIELDS) {
  $(id).addEventListener("change", () => {
    const box = FIELDS.map((field) => Math.round($(field).valueAsNumber));
    if (box.every(Number.isFinite) && box[2] > 0 && box[3] > 0) drafts[selected] = box;
    render();
  });
}

// --- what is seen

function render() {
  const { phase, size, boxes, lost } = state;
  const running = phase !== "choose" && phase !== "end";
  if (running && boxes.length) drafts = boxes.map((_, target) => drafts[target] ?? null);
  $("name").textContent = state.name ?? "trtrun";
  document.title = `trtrun: ${state.name ?? ""}`;
  const of = state.length ? ` of ${state.length}` : "";
  $("facts").textContent = state.frame === undefined ? "" : `${size[0]}×${size[1]}, frame ${state.frame + 1}${of}`;
  $("track").disabled = phase === "end" || drawn() < (phase === "choose" ? state.least : 1);
  $("pause").disabled = $("step").disabled = !running;
  $("stop").disabled = phase === "end";
  $("pause").textContent = phase === "pause" ? "Resume" : "Pause";
  renderTargets(phase, boxes, lost);
  $("drafts").innerHTML = drafts.map((box, target) => box && rectangle(box, target)).filter(Boolean).join("");
  const numbers = drafts[selected] ?? boxes[selected]?.map(Math.round) ?? [];
  FIELDS.forEach((field, index) => {
    $(field).disabled = phase === "run" || phase === "end";
    if (document.activeElement !== $(field)) $(field).value = numbers[index] ?? "";
  });
  renderCurve(Math.max(boxes.length, 1));
}

function rectangle([x, y, w, h], target) {
  const shape = `x="${x}" y="${y}" width="${w}" height="${h}"`;
  return `<rect class="rim" ${shape}/><rect class="box" ${shape} stroke="${COLOURS[target % COLOURS.length]}"/>`;
}

function renderTargets(phase, boxes, lost) {
  const more = phase === "choose" && drafts.length < state.most;
  const labels = drafts.map((_, target) => (lost[target] ? `${target + 1} lost` : `${target + 1}`));
  if (more) labels.push("+ target");
  const list = $("targets");
  while (list.children.length > labels.length) list.lastChild.remove();
  labels.forEach((label, target) => {
    const chip = list.children[target] ?? list.appendChild(document.createElement("button"));
    const adds = target === drafts.length;
    chip.textContent = label;
    chip.style.borderLeftColor = adds ? "" : COLOURS[target % COLOURS.length];
    chip.setAttribute("aria-pressed", String(target === selected));
    chip.onclick = () => {
      if (adds) drafts.push(null);
      selected = target;
      render();
    };
  });
}

function renderCurve(targets) {
  const canvas = $("curve"), ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight, pad = 6;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const recent = scores.slice(-SHOWN_SCORES);
  const across = (index) => pad + (width - 2 * pad) * index / Math.max(1, SHOWN_SCORES - 1);
  const down = (score) => height - pad - (height - 2 * pad) * score;
  const lines = light.matches ? ON_LIGHT : COLOURS;
  pen.strokeStyle = light.matches ? LOST_ON_LIGHT : LOST;
  pen.setLineDash([4, 4]);
  pen.beginPath();
  pen.moveTo(pad, down(state.threshold));
  pen.lineTo(width - pad, down(state.threshold));
  pen.stroke();
  pen.setLineDash([]);
  pen.lineWidth = 1.5;
  for (let target = 0; target < targets; target++) {
    pen.strokeStyle = lines[target % lines.length];
    pen.beginPath();
    let drawing = false;
    recent.forEach(([, all], index) => {
      const score = all[target];
      if (score === null || score === undefined) drawing = false;
      else if (drawing) pen.lineTo(across(index), down(score));
      else { pen.moveTo(across(index), down(score)); drawing = true; }
    });
    pen.stroke();
  }
  const last = recent.at(-1)?.[1] ?? [];
  $("score").textContent = last.map((score) => (score === null ? "" : score.toFixed(2))).join("  ");
}

const light = matchMedia("(prefers-color-scheme: light)");
light.onchange = render;
new ResizeObserver(fit).observe(stage);
render();
