"use strict";
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#808080"];
const DASHES = ["", "7 4", "2 3", "9 3 2 3"];
const MARKS = ["circle", "square", "diamond", "triangle"];
const FIRST_ROWS = 300;
const ANY = "\u0000any";
const MEAN = "";
const NO_SUPPORT = "no support set"; // the protocol of methods without shots

const byId = (id) => document.getElementById(id);
let all = null; // what data.js brought
let sorting = { column: "accuracy", descending: true };
let showAll = false;
const waiting = new Map(); // script name -> functions that want its content
const loaded = new Map();

/* Elements: h("p", {class: "x"}, "text", child). Text is never parsed as HTML. */
function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/* Numbers as people read them. */
const percent = (x, digits = 1) => (100 * x).toFixed(digits);
const counts = (text) => Array.from(text, (c) => (typeof c === "number" ? c : c.charCodeAt(0) - 35));
const scored = (row) => row[3].length === 4;
const trusted = (row, at) => (scored(row) ? row[6][at] ?? -1 : -1); // below 0: not known

function seconds(x) {
  return x < 10 ? x.toFixed(2) : x < 1000 ? x.toFixed(0) : (x / 3600).toFixed(1) + " h";
}

function many(x) {
  return x >= 1e6 ? (x / 1e6).toFixed(1) + " M" : x >= 1e4 ? (x / 1e3).toFixed(0) + " k" : String(x);
}

function shownScore(row) {
  if (!scored(row)) return `${row[3][0]}/${row[3][1]}`;
  const [mean, std] = row[3];
  return percent(mean) + (std === null ? "" : " ± " + percent(std));
}

function datasetName(row) {
  return row[1] === MEAN ? `mean of ${settingOf(row).members.length}` : row[1];
}

const classNames = (row) => all.classes[row[1] + (settingOf(row).classes === "all" ? "" : "/" + settingOf(row).classes)];
const variantOf = (row) => all.variants[row[0]];
const settingOf = (row) => all.settings[variantOf(row).setting];

/* The columns of the leaderboard: what a cell shows and what it is sorted by. `minor` ones give way on a phone. */
const LEADS = ["", " ≈", " ★"]; // neither, tied with the best, the best
const COLUMNS = [
  { id: "method", label: "Method", text: true, key: (r) => variantOf(r).heading.toLowerCase(), show: opener },
  { id: "accuracy", label: "Accuracy", key: (r) => (scored(r) ? r[3][0] : -1), show: (r) => shownScore(r) + LEADS[r[5]] },
  { id: "shots", label: "Shots", key: (r) => r[2], show: (r) => String(r[2]) },
  { id: "dataset", label: "Dataset", text: true, key: (r) => datasetName(r), show: (r) => datasetName(r) },
  { id: "interval", label: "95 % ±", minor: true, key: (r) => (scored(r) ? r[3][2] ?? -1 : -1), show: (r) => (scored(r) && r[3][2] !== null ? percent(r[3][2]) : "–") },
  { id: "seeds", label: "Seeds", key: (r) => (scored(r) ? r[3][3].length : 0), show: (r) => (scored(r) ? String(r[3][3].length) : "–") },
  { id: "perclass", label: "Per class", minor: true, key: (r) => trusted(r, 0), show: (r) => (trusted(r, 0) < 0 ? "–" : percent(r[6][0])) },
  { id: "ece", label: "ECE", minor: true, key: (r) => trusted(r, 1), show: (r) => (trusted(r, 1) < 0 ? "–" : percent(r[6][1])) },
  { id: "covered", label: "At 80 %", minor: true, key: (r) => trusted(r, 2), show: (r) => (trusted(r, 2) < 0 ? "–" : percent(r[6][2])) },
  { id: "train", label: "Train s", minor: true, key: (r) => r[4][1] + r[4][2], show: (r) => seconds(r[4][1] + r[4][2]) },
  { id: "predict", label: "Predict s", minor: true, key: (r) => r[4][3], show: (r) => seconds(r[4][3]) },
  { id: "memory", label: "Peak MB", minor: true, key: (r) => r[4][4], show: (r) => String(r[4][4]) },
  { id: "trainable", label: "Trained", minor: true, key: (r) => r[4][5], show: (r) => many(r[4][5]) },
  { id: "protocol", label: "Protocol", text: true, minor: true, key: (r) => variantOf(r).protocol, show: (r) => h("span", { class: "protocol" }, variantOf(r).protocol) },
];

function opener(row) {
  const apart = variantOf(row).ranked ? "" : " (not ranked)";
  const label = `${variantOf(row).heading}${apart}: records, ${datasetName(row)}, ${row[2]}-shot`;
  return h("button", { type: "button", class: "open", "aria-label": label, click: () => openRow(row) }, variantOf(row).heading + apart);
}

/* Filters */
function chosen() {
  return {
    setting: Number(byId("f-setting").value),
    dataset: byId("f-dataset").value,
    shots: byId("f-shots").value,
    protocol: byId("f-protocol").value,
    method: byId("f-method").value.trim().toLowerCase(),
  };
}

function variantFits(variant, f) {
  const everywhere = variant.protocol === NO_SUPPORT; // ranked with every protocol
  return variant.setting === f.setting && (everywhere || f.protocol === ANY || variant.protocol === f.protocol) &&
    (variant.heading.toLowerCase().includes(f.method) || variant.method.toLowerCase().includes(f.method));
}

function rowFits(row, f) {
  return variantFits(variantOf(row), f) && (f.dataset === ANY || row[1] === f.dataset) && (f.shots === ANY || row[2] === 0 || String(row[2]) === f.shots);
}

/* One number of shots and one protocol to begin with: those of the most rows that are ranked. */
function startFilters() {
  const setting = Number(byId("f-setting").value);
  const rows = all.rows.filter((row) => variantOf(row).setting === setting && variantOf(row).ranked && row[2] > 0);
  const protocol = commonest(rows.map((row) => variantOf(row).protocol));
  const shots = commonest(rows.filter((row) => variantOf(row).protocol === protocol).map((row) => row[2]));
  byId("f-protocol").value = protocol === undefined ? ANY : protocol;
  byId("f-shots").value = shots === undefined ? ANY : String(shots);
}

/* Of several that are as common, the largest. */
function commonest(values) {
  const count = new Map();
  for (const value of values) count.set(value, (count.get(value) || 0) + 1);
  return [...count.keys()].sort((a, b) => count.get(b) - count.get(a) || (a < b ? 1 : -1))[0];
}

function options(select, pairs, wanted) {
  select.replaceChildren(...pairs.map(([value, label]) => h("option", { value }, label)));
  if (pairs.some(([value]) => value === wanted)) select.value = wanted;
}

/* Settings of one protocol at a time: numbers of several never stand in one list. */
function offerSettings() {
  const wanted = byId("f-evaluation").value;
  const fitting = all.settings.map((setting, at) => [String(at), setting.label, setting.evaluation]).filter(([, , evaluation]) => evaluation === wanted);
  options(byId("f-setting"), fitting.map(([at, label]) => [at, label]), byId("f-setting").value);
}

function offerFilters() {
  const setting = Number(byId("f-setting").value);
  const rows = all.rows.filter((row) => variantOf(row).setting === setting);
  const datasets = [...new Set(rows.map((row) => row[1]))].sort((a, b) => order(setting, a) - order(setting, b));
  const names = datasets.map((name) => [name, name === MEAN ? `mean of ${all.settings[setting].members.length}` : name]);
  const shots = [...new Set(rows.map((row) => row[2]))].sort((a, b) => a - b);
  const protocols = [...new Set(rows.map((row) => variantOf(row).protocol))].sort();
  options(byId("f-dataset"), [...names, [ANY, "all datasets"]], byId("f-dataset").value);
  options(byId("f-shots"), [[ANY, "any"], ...shots.map((k) => [String(k), String(k)])], byId("f-shots").value);
  options(byId("f-protocol"), [[ANY, "any"], ...protocols.map((p) => [p, p])], byId("f-protocol").value);
}

const order = (setting, name) => (name === MEAN ? -1 : all.settings[setting].datasets.indexOf(name));

/* Leaderboard */
function drawHead() {
  const cells = COLUMNS.map((column) => {
    const direction = column.id === sorting.column ? (sorting.descending ? "descending" : "ascending") : "none";
    const attributes = { scope: "col", "aria-sort": direction, class: [column.text ? "text" : "", column.minor ? "minor" : ""].join(" ").trim() };
    return h("th", attributes, h("button", { type: "button", click: () => sortBy(column.id) }, column.label));
  });
  byId("board").tHead.replaceChildren(h("tr", {}, cells));
}

function sortBy(id) {
  const column = COLUMNS.find((one) => one.id === id);
  sorting = { column: id, descending: sorting.column === id ? !sorting.descending : !column.text };
  drawHead();
  drawBoard();
  byId("board").tHead.querySelectorAll("button")[COLUMNS.indexOf(column)].focus();
}

function compareBy(column, descending) {
  return (a, b) => {
    const [x, y] = [column.key(a), column.key(b)];
    return (x < y ? -1 : x > y ? 1 : 0) * (descending ? -1 : 1);
  };
}

/* What is not ranked stands below everything that is, however the rows are sorted. */
function rankedFirst(compare) {
  return (a, b) => variantOf(b).ranked - variantOf(a).ranked || compare(a, b);
}

function drawBoard() {
  const f = chosen();
  const column = COLUMNS.find((one) => one.id === sorting.column);
  const rows = all.rows.filter((row) => rowFits(row, f)).sort(rankedFirst(compareBy(column, sorting.descending)));
  const shown = showAll ? rows : rows.slice(0, FIRST_ROWS);
  byId("board").tBodies[0].replaceChildren(...shown.map(boardRow));
  byId("status").textContent = rows.length ? `${rows.length} rows, ${all.settings[f.setting].label}` : "No row fits these choices.";
  byId("more").hidden = shown.length === rows.length;
}

function boardRow(row) {
  const cell = (column) => h("td", { class: [column.text ? "text" : "", column.minor ? "minor" : ""].join(" ").trim() }, column.show(row));
  return h("tr", { class: variantOf(row).ranked ? null : "apart" }, COLUMNS.map(cell));
}

/* Curves */
function drawCurves() {
  const f = chosen();
  const rows = all.rows.filter((row) => variantFits(variantOf(row), f));
  const dataset = f.dataset !== ANY ? f.dataset : rows.some((row) => row[1] === MEAN) ? MEAN : rows.length ? rows[0][1] : MEAN;
  const curves = curvesOf(rows.filter((row) => row[1] === dataset && scored(row)));
  const shots = [...new Set(curves.flatMap((curve) => curve.points.map((p) => p.shots)))].filter((k) => k > 0).sort((a, b) => a - b);
  const figure = byId("curves");
  if (!curves.length) return figure.replaceChildren(h("p", { class: "note" }, "Nothing to draw: no complete mean for these choices."));
  const title = `${dataset === MEAN ? "Mean of " + all.settings[f.setting].members.length + " datasets" : dataset}, ${all.settings[f.setting].label}`;
  figure.replaceChildren(h("figcaption", { class: "note" }, `${title}; whiskers: 95 % interval over seeds`), chart(curves, shots, title), legend(curves));
}

function curvesOf(rows) {
  const byVariant = new Map();
  for (const row of rows) byVariant.set(row[0], [...(byVariant.get(row[0]) || []), row]);
  return [...byVariant].map(([number, found], at) => ({
    name: all.variants[number].heading + (all.variants[number].ranked ? "" : " (not ranked)"),
    colour: found.every((row) => row[2] === 0) ? "var(--quiet)" : COLOURS[at % COLOURS.length],
    dash: DASHES[Math.floor(at / COLOURS.length) % DASHES.length],
    mark: MARKS[(at + Math.floor(at / COLOURS.length)) % MARKS.length],
    points: found.map((row) => ({ shots: row[2], y: row[3][0], half: row[3][2] })).sort((a, b) => a.shots - b.shots),
  }));
}

function chart(curves, shots, title) {
  const width = Math.max(320, byId("curves").clientWidth);
  const [height, left, right, top, bottom] = [Math.min(440, 200 + width * 0.25), 40, 8, 10, 44];
  const ys = curves.flatMap((c) => c.points.map((p) => p.y));
  const low = Math.max(0, Math.floor(Math.min(...ys) * 20 - 0.3) / 20);
  const high = Math.min(1, Math.ceil(Math.max(...ys) * 20 + 0.3) / 20);
  const x = (k) => left + 20 + ((width - left - right - 40) * shots.indexOf(k)) / Math.max(1, shots.length - 1);
  const y = (v) => top + ((height - top - bottom) * (high - v)) / (high - low || 1);
  const picture = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Accuracy against shots: ${title}` });
  const step = high - low > 0.5 ? 0.1 : high - low > 0.2 ? 0.05 : 0.02;
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9; v += step) {
    picture.append(s("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }), s("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, percent(v, 0)));
  }
  shots.forEach((k) => picture.append(s("text", { x: x(k), y: height - 24, "text-anchor": "middle" }, String(k))));
  picture.append(s("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "images per class"));
  curves.forEach((curve, at) => picture.append(curveShape(curve, x, y, [left, width - right], [y(low), y(high)], (at - curves.length / 2) * Math.min(3, 30 / curves.length))));
  return picture;
}

function curveShape(curve, x, y, ends, bounds, shift) {
  const group = s("g", { stroke: curve.colour, fill: "none" }, s("title", {}, curve.name));
  const flat = curve.points.find((p) => p.shots === 0);
  if (flat) group.append(s("line", { x1: ends[0], x2: ends[1], y1: y(flat.y), y2: y(flat.y), "stroke-width": 2.5, "stroke-dasharray": "2 5" }));
  const points = curve.points.filter((p) => p.shots > 0);
  const clip = (v) => Math.min(bounds[0], Math.max(bounds[1], v));
  points.filter((p) => p.half).forEach((p) => group.append(s("line", { x1: x(p.shots) + shift, x2: x(p.shots) + shift, y1: clip(y(p.y - p.half)), y2: clip(y(p.y + p.half)), "stroke-width": 1.2, opacity: 0.65 })));
  group.append(s("polyline", { points: points.map((p) => `${x(p.shots) + shift},${y(p.y)}`).join(" "), "stroke-width": 2, "stroke-dasharray": curve.dash }));
  points.forEach((p) => group.append(mark(curve, x(p.shots) + shift, y(p.y))));
  return group;
}

function mark(curve, x, y) {
  const r = 4.5;
  if (curve.mark === "circle") return s("circle", { cx: x, cy: y, r, fill: curve.colour });
  const shapes = {
    square: [[-r, -r], [r, -r], [r, r], [-r, r]],
    diamond: [[0, -r - 1], [r + 1, 0], [0, r + 1], [-r - 1, 0]],
    triangle: [[0, -r - 1], [r + 1, r], [-r - 1, r]],
  };
  return s("polygon", { points: shapes[curve.mark].map(([dx, dy]) => `${x + dx},${y + dy}`).join(" "), fill: curve.colour });
}

function legend(curves) {
  const sample = (curve) => {
    const flat = curve.points.every((p) => p.shots === 0);
    const picture = s("svg", { viewBox: "0 0 48 16", "aria-hidden": "true" }, s("line", { x1: 2, x2: 46, y1: 8, y2: 8, stroke: curve.colour, "stroke-width": 2.5, "stroke-dasharray": flat ? "2 5" : curve.dash }));
    if (!flat) picture.append(mark(curve, 24, 8));
    return picture;
  };
  return h("ul", { class: "legend" }, curves.map((curve) => h("li", {}, sample(curve), curve.name)));
}

/* Details are fetched as scripts, since a page opened from disk may not read files. */
function fetchScript(name, then) {
  if (loaded.has(name)) return then(loaded.get(name));
  waiting.set(name, [...(waiting.get(name) || []), then]);
  if (waiting.get(name).length === 1) document.head.append(h("script", { src: name.split("/").map(encodeURIComponent).join("/") }));
}

function arrive(name, content) {
  loaded.set(name, content);
  (waiting.get(name) || []).forEach((then) => then(content));
  waiting.delete(name);
}

function detail(name, content) { arrive(`records/${name}.js`, content); }
function pictures(name, content) { arrive(`images/${name}.js`, content); }

/* The dialog with the records behind a number */
function openRow(row) {
  const title = `${variantOf(row).heading}, ${datasetName(row)}, ${row[2]}-shot`;
  byId("r-title").textContent = title;
  if (variantOf(row).parts) showParts(row);
  else if (row[1] === MEAN) showMembers(row);
  else fetchScript(`records/${row[0]}-${row[1]}.js`, (content) => showRecords(row, content));
  if (!byId("record").open) byId("record").showModal();
}

function showMembers(row) {
  const parts = all.rows.filter((one) => one[0] === row[0] && one[2] === row[2] && settingOf(row).members.includes(one[1]));
  const entry = (one) => h("li", {}, h("button", { type: "button", class: "open", click: () => openRow(one) }, one[1]), ` ${shownScore(one)}`);
  byId("r-body").replaceChildren(h("p", {}, `Mean ${shownScore(row)} over`), h("ul", {}, parts.map(entry)));
}

/* H is no record's: the numbers of the two halves that it is made of */
function showParts(row) {
  const halves = variantOf(row).parts.flatMap((part) => all.rows.filter((one) => one[0] === part && one[1] === row[1] && one[2] === row[2]));
  const entry = (one) => h("li", {}, h("button", { type: "button", class: "open", click: () => openRow(one) }, settingOf(one).classes), ` ${shownScore(one)}`);
  byId("r-body").replaceChildren(h("p", {}, `H ${shownScore(row)}, the harmonic mean of`), h("ul", {}, halves.map(entry)));
}

function showRecords(row, content) {
  const records = content.records.filter((record) => record.shots === row[2]);
  const body = byId("r-body");
  const place = h("div");
  const select = h("select", { id: "r-seed", change: () => place.replaceChildren(...recordView(row, content, records[select.selectedIndex])) });
  select.append(...records.map((record) => h("option", {}, record.shots ? `seed ${record.seed}` : "no seed", `: ${percent(accuracy(content, record))} %`)));
  body.replaceChildren(h("p", {}, `Accuracy ${shownScore(row)}; ${variantOf(row).protocol}`), h("label", {}, "Record ", select), place);
  place.replaceChildren(...recordView(row, content, records[0]));
}

const total = (numbers) => numbers.reduce((a, b) => a + b, 0);
const accuracy = (content, record) => total(counts(record.correct)) / total(counts(content.totals));

function recordView(row, content, record) {
  const facts = {
    "key": record.key,
    "right": `${total(counts(record.correct))} of ${total(counts(content.totals))} test images`,
    "seen by the backbone": content.seen, ...record.calibration, ...costsOf(content, record), ...record.notes, ...record.made,
    "parameters": Object.entries(variantOf(row).params).map(([name, value]) => `${name}=${value}`).join(" ") || "none",
  };
  return [
    h("h3", {}, "Again, on your machine"), h("pre", {}, `${command(content, record)}\n# compare with these counts, where the record is at hand:\npython -m benchmark replay ${record.key}`),
    h("h3", {}, "Record"), h("dl", {}, Object.entries(facts).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))])),
    h("h3", {}, "Accuracy per class, lowest first"), classBars(classNames(row), content, record),
    ...confusions(classNames(row), record),
  ];
}

function costsOf(content, record) {
  return Object.fromEntries(content.costs.map((name, at) => [name, record.costs[at]]).filter(([, value]) => value !== null));
}

function command(content, record) {
  return content.run.replace(/--shots \d+ --seed \d+/, `--shots ${record.shots} --seed ${record.seed}`);
}

function classBars(names, content, record) {
  const right = counts(record.correct), of = counts(content.totals);
  const ranked = names.map((name, at) => ({ name, right: right[at], of: of[at] })).filter((one) => one.of).sort((a, b) => a.right / a.of - b.right / b.of);
  return h("div", { class: "classes" }, ranked.flatMap((one) => [
    h("span", { class: "name", title: one.name }, one.name),
    h("span", { class: "track" }, h("div", { class: "fill", style: `width:${percent(one.right / one.of)}%` })),
    h("span", { class: "count" }, `${one.right}/${one.of}`),
  ]));
}

function confusions(names, record) {
  if (!record.confusions) return [h("p", { class: "note" }, "Confusions need the predictions and the dataset on the machine that wrote this page.")];
  const rows = record.confusions.map(([truth, said, count]) => h("tr", {}, h("td", { class: "text" }, names[truth]), h("td", { class: "text" }, names[said]), h("td", {}, String(count))));
  const heads = [["text", "Truth"], ["text", "Predicted"], ["", "Images"]].map(([kind, label]) => h("th", { scope: "col", class: kind, style: "padding:.3rem .6rem" }, label));
  return [h("h3", {}, "Commonest confusions"), h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows))];
}

/* Images that one record gets right and another wrong */
function offerImages() {
  if (!all.pictured.length) return;
  byId("images").hidden = false;
  options(byId("v-dataset"), all.pictured.map((name) => [name, name]));
  fetchScript(`images/${byId("v-dataset").value}.js`, offerRivals);
}

function offerRivals(content) {
  const names = content.said.map(([variant, shots, seed], at) => [String(at), `${all.variants[variant].heading}, ${shots}-shot${shots ? `, seed ${seed}` : ""}`]);
  options(byId("v-right"), names, String(names.length - 1));
  options(byId("v-wrong"), names, "0");
  drawGallery();
}

function drawGallery() {
  fetchScript(`images/${byId("v-dataset").value}.js`, (content) => {
    const right = content.said[Number(byId("v-right").value)][3], wrong = content.said[Number(byId("v-wrong").value)][3];
    const found = content.images.map(([index, truth], at) => ({ index, truth, wrong: wrong[at], right: right[at] })).filter((one) => one.right === one.truth && one.wrong !== one.truth);
    byId("v-status").textContent = `${found.length} of the ${content.images.length} most disputed test images`;
    byId("gallery").replaceChildren(...found.map((one) => galleryItem(one)));
  });
}

function galleryItem(one) {
  const dataset = byId("v-dataset").value;
  const names = all.classes[dataset];
  const text = [h("b", {}, names[one.truth]), h("br"), `wrong: ${names[one.wrong]}`];
  return h("li", {}, h("img", { src: `images/${encodeURIComponent(dataset)}/${one.index}.png`, alt: `test image ${one.index}`, loading: "lazy" }), text);
}

/* Light and dark: the system decides until somebody does. */
function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  byId("theme").textContent = dark ? "Dark" : "Light";
  byId("theme").setAttribute("aria-pressed", String(!dark));
}

/* Drawn for the width at hand, so that letters keep their size on a phone. */
function widened(figure) {
  let width = figure.clientWidth;
  return () => {
    if (figure.clientWidth === width) return;
    width = figure.clientWidth;
    drawCurves();
  };
}

function redraw() {
  drawBoard();
  drawCurves();
}

function results(content) {
  all = content;
  options(byId("f-evaluation"), [...new Set(all.settings.map((setting) => setting.evaluation))].sort((a, b) => (b === "few-shot") - (a === "few-shot")).map((name) => [name, name]));
  byId("f-evaluation").addEventListener("change", () => { offerSettings(); offerFilters(); redraw(); });
  offerSettings();
  offerFilters();
  startFilters();
  byId("f-setting").addEventListener("change", () => { offerFilters(); startFilters(); redraw(); });
  for (const id of ["f-dataset", "f-shots", "f-protocol"]) byId(id).addEventListener("change", redraw);
  byId("f-method").addEventListener("input", redraw);
  for (const id of ["filters", "versus"]) byId(id).addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", () => { showAll = true; drawBoard(); });
  byId("theme").addEventListener("click", toggleTheme);
  new ResizeObserver(widened(byId("curves"))).observe(byId("curves"));
  byId("v-dataset").addEventListener("change", () => fetchScript(`images/${byId("v-dataset").value}.js`, offerRivals));
  for (const id of ["v-right", "v-wrong"]) byId(id).addEventListener("change", drawGallery);
  if (matchMedia("(prefers-color-scheme: dark)").matches) byId("theme").textContent = "Light";
  drawHead();
  redraw();
  offerImages();
}
