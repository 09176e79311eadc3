const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07d00", "#3a9bd1", "#8c6bb1", "#808080"];
const DASHES = ["", "7 4", "2 3", "9 3 2 3"];
const SHAPES = ["circle", "square", "diamond", "triangle"];
const FIRST_CURVES = 8; // more are hard to tell apart
let allCurves = false;

function drawCurves(view) {
  const rows = matrixOf(view).blocks.flatMap((block) => block.rows).filter((row) => resultOf(view, row, chosen.dataset));
  const curves = (allCurves ? rows : rows.slice(0, FIRST_CURVES)).map((row, at) => curveOf(view, row, at));
  byId("more-curves").hidden = rows.length <= FIRST_CURVES;
  byId("more-curves").textContent = allCurves ? `Only the first ${FIRST_CURVES}` : `All ${rows.length} methods`;
  if (!rows.length) return byId("curves").replaceChildren(h("p", { class: "note" }, "Nothing to draw: no mean over the same datasets for these choices."));
  const what = chosen.dataset === MEAN ? meanLabel(view) : chosen.dataset;
  const which = curves.length < rows.length ? `the first ${curves.length} of ${rows.length} methods of the table above` : plural(rows.length, "method");
  byId("curves").replaceChildren(
    h("figcaption", { class: "note" }, `${what}, ${describe(view)}; ${which}; whiskers: one sample deviation over seeds to either side${gaps(curves)}`),
    chart(curves, what), legend(curves));
}

/* Where a curve has no point that others have */
function gaps(curves) {
  const sizes = new Set(curves.filter((curve) => curve.points.some((p) => p.shots)).map((curve) => curve.points.length));
  return sizes.size > 1 ? "; no point where a result, or a dataset of the mean, is missing" : "";
}

/* The results of a row at all numbers of shots, as far as they are about the same datasets. */
function curveOf(view, row, at) {
  const others = views.filter((one) => one.setting === view.setting && one.protocol === view.protocol && sameMean(one, view));
  const points = (row.shots ? others : [view]).map((one) => pointOf(one, row)).filter((point) => point);
  return {
    name: nameOf(row) + (row.variant.bar ? " (not ranked)" : ""), points,
    colour: row.shots ? COLOURS[at % COLOURS.length] : "var(--quiet)",
    dash: DASHES[Math.floor(at / COLOURS.length) % DASHES.length],
    shape: SHAPES[(at + Math.floor(at / COLOURS.length)) % SHAPES.length],
  };
}

const sameMean = (one, other) => chosen.dataset !== MEAN || one.averaged.join(" ") === other.averaged.join(" ");

function pointOf(view, row) {
  const result = chosen.dataset === MEAN ? meanAt(view, row.number) : cellOf(view.setting, row.number, chosen.dataset, row.shots && view.shots);
  return result && typeof result.mean === "number" ? { shots: result.shots, y: result.mean, spread: result.std || 0 } : null;
}

function meanAt(view, number) {
  const at = view.rows.variant.indexOf(number);
  const result = at < 0 ? null : resultAt(view.rows, at);
  return result && result.have === view.averaged.length ? result : null;
}

/* The axis holds every whisker to its end. */
function chart(curves, title) {
  const width = Math.max(320, byId("curves").clientWidth);
  const area = { left: 40, right: width - 8, top: 10, bottom: Math.min(440, 200 + width * 0.25) - 44 };
  const points = curves.flatMap((curve) => curve.points);
  const low = Math.max(0, Math.floor(Math.min(...points.map((p) => p.y - p.spread)) * 50 - 0.2) / 50);
  const high = Math.min(1, Math.ceil(Math.max(...points.map((p) => p.y + p.spread)) * 50 + 0.2) / 50);
  const shots = [...new Set(points.map((p) => p.shots))].filter((k) => k > 0).sort((a, b) => a - b);
  const part = (k) => (shots.length > 1 ? shots.indexOf(k) / (shots.length - 1) : 0.5);
  const x = (k) => area.left + 20 + (area.right - area.left - 40) * part(k);
  const y = (v) => area.top + ((area.bottom - area.top) * (high - v)) / (high - low || 1);
  const picture = s("svg", { viewBox: `0 0 ${width} ${area.bottom + 44}`, role: "img", "aria-label": `Accuracy against shots: ${title}. The numbers stand in the ranked list.` });
  picture.append(...axes(area, shots, x, y, low, high));
  curves.forEach((curve, at) => picture.append(curveShape(curve, x, y, area, (at - curves.length / 2) * Math.min(4, 40 / curves.length))));
  return picture;
}

function axes(area, shots, x, y, low, high) {
  const step = [0.01, 0.02, 0.05, 0.1].find((one) => (high - low) / one <= 8) || 0.2;
  const parts = [];
  for (let tick = Math.ceil(low / step - 1e-9); tick * step <= high + 1e-9; tick++) {
    const at = y(tick * step);
    parts.push(s("line", { class: "grid", x1: area.left, x2: area.right, y1: at, y2: at }), s("text", { x: area.left - 6, y: at + 4, "text-anchor": "end" }, percent(tick * step, 0)));
  }
  const labels = shots.map((k) => s("text", { x: x(k), y: area.bottom + 20, "text-anchor": "middle" }, String(k)));
  return [...parts, ...labels, s("text", { x: (area.left + area.right) / 2, y: area.bottom + 40, "text-anchor": "middle" }, "images per class")];
}

/* Whiskers are hairlines beside each other, so that they never cover a curve. */
function curveShape(curve, x, y, area, shift) {
  const group = s("g", { class: "curve", stroke: curve.colour, fill: "none" }, s("title", {}, curve.name));
  const flat = curve.points.find((p) => p.shots === 0);
  if (flat) group.append(s("line", { x1: area.left, x2: area.right, y1: y(flat.y), y2: y(flat.y), "stroke-width": 2, "stroke-dasharray": "2 5" }));
  const points = curve.points.filter((p) => p.shots > 0).sort((a, b) => a.shots - b.shots);
  const at = (p) => x(p.shots) + shift;
  group.append(...points.filter((p) => p.spread).map((p) => s("line", { class: "whisker", x1: at(p), x2: at(p), y1: y(Math.max(0, p.y - p.spread)), y2: y(Math.min(1, p.y + p.spread)) })));
  group.append(s("polyline", { points: points.map((p) => `${at(p)},${y(p.y)}`).join(" "), "stroke-width": 1.8, "stroke-dasharray": curve.dash }));
  group.append(...points.map((p) => sign(curve, at(p), y(p.y))));
  return group;
}

function sign(curve, x, y) {
  const r = 4;
  if (curve.shape === "circle") return s("circle", { cx: x, cy: y, r, fill: curve.colour });
  const corners = {
    square: [[-r, -r], [r, -r], [r, r], [-r, r]],
    diamond: [[0, -r - 1], [r + 1, 0], [0, r + 1], [-r - 1, 0]],
    triangle: [[0, -r - 1], [r + 1, r], [-r - 1, r]],
  };
  return s("polygon", { points: corners[curve.shape].map(([dx, dy]) => `${x + dx},${y + dy}`).join(" "), fill: curve.colour });
}

/* A name brings its curve forward. */
function legend(curves) {
  const forward = (at) => (event) => {
    const on = event.currentTarget.getAttribute("aria-pressed") !== "true";
    byId("curves").querySelectorAll("button").forEach((one, other) => one.setAttribute("aria-pressed", String(on && other === at)));
    byId("curves").querySelectorAll(".curve").forEach((one, other) => one.classList.toggle("behind", on && other !== at));
  };
  return h("ul", { class: "legend" }, curves.map((curve, at) => h("li", {}, button([sample(curve), curve.name], forward(at), { "aria-pressed": "false" }))));
}

function sample(curve) {
  const flat = curve.points.every((p) => p.shots === 0);
  const line = s("line", { x1: 2, x2: 46, y1: 8, y2: 8, stroke: curve.colour, "stroke-width": 2.5, "stroke-dasharray": flat ? "2 5" : curve.dash });
  return s("svg", { viewBox: "0 0 48 16", "aria-hidden": "true" }, line, flat ? null : sign(curve, 24, 8));
}
