const FACETS = ["task", "suite", "backbone", "precision", "pipeline", "shots", "protocol"]; // each narrows the next
const MEAN = "mean"; // stands for the mean where a dataset's name would stand
const USUAL = { show: "accuracy", sort: "-mean", dataset: MEAN, methods: "", spread: "", names: "", list: "-accuracy" };
const PAUSE_MS = 120;
let all = null; // what data.js brought
let views = []; // one per setting, number of shots and protocol
let chosen = { ...USUAL }; // facets, and what USUAL names; all of it stands in the address
let asked = new Set(); // the facets that the address names, until something else is chosen
let notHere = []; // what it asks for in vain

/* One view for every value of every facet */
function gatherViews() {
  views = all.settings.flatMap((setting, place) => setting.views.map((view) => {
    const facets = { ...setting, shots: String(view.shots), protocol: view.protocol };
    return { ...view, place, setting, facets, size: view.rows.variant.length * view.datasets.length };
  }));
}

/* The view that fits: what is chosen where it exists, else the value with the most results. */
function chosenView() {
  let left = views;
  for (const facet of FACETS) {
    const values = valuesOf(left, facet);
    if (!values.includes(chosen[facet])) {
      if (asked.has(facet)) notHere.push(`${facet} “${chosen[facet]}”`);
      chosen[facet] = largest(left, facet);
    }
    left = left.filter((view) => view.facets[facet] === chosen[facet]);
  }
  return left[0];
}

const valuesOf = (some, facet) => [...new Set(some.map((view) => view.facets[facet]))];

function largest(some, facet) {
  const size = new Map();
  for (const view of some) size.set(view.facets[facet], (size.get(view.facets[facet]) || 0) + view.size);
  const more = (a, b) => size.get(b) - size.get(a) || (facet === "shots" ? b - a : 0);
  return [...size.keys()].sort(more)[0];
}

/* The address */
function readAddress() {
  const known = [...FACETS, ...Object.keys(USUAL)];
  const given = [...new URLSearchParams(location.hash.slice(1))].filter(([name]) => known.includes(name));
  asked = new Set(given.map(([name]) => name));
  chosen = { ...USUAL, ...Object.fromEntries(given) };
}

function writeAddress() {
  const told = [...FACETS, ...Object.keys(USUAL).filter((name) => chosen[name] !== USUAL[name])];
  const address = new URLSearchParams(told.map((name) => [name, chosen[name]]));
  history.replaceState(null, "", `#${address}`);
}

function choose(changes) {
  asked.clear();
  chosen = { ...chosen, ...changes };
  draw();
}

/* The fields: of the facets those that leave a choice, each with the values that fit the ones before it. */
function drawFields(view) {
  let left = views;
  for (const facet of FACETS) {
    const values = valuesOf(left, facet);
    if (facet === "shots") values.sort((a, b) => a - b);
    options(byId(`f-${facet}`), values.map((value) => [value, value]), chosen[facet]);
    byId(`f-${facet}`).closest("label").hidden = values.length < 2 && ["precision", "pipeline"].includes(facet);
    left = left.filter((one) => one.facets[facet] === chosen[facet]);
  }
  options(byId("f-show"), measuresOf(view).map((measure) => [measure.id, measure.label]), chosen.show);
  options(byId("f-dataset"), [...(hasMean(view) ? [[MEAN, meanLabel(view)]] : []), ...view.datasets.map((name) => [name, name])], chosen.dataset);
  for (const name of ["spread", "names"]) byId(`f-${name}`).checked = chosen[name] !== "";
  if (byId("f-methods").value !== chosen.methods) byId("f-methods").value = chosen.methods;
}

function options(select, pairs, wanted) {
  select.replaceChildren(...pairs.map(([value, label]) => h("option", { value }, label)));
  if (wanted !== undefined) select.value = wanted;
}

function listenToFields() {
  for (const name of [...FACETS, "dataset"]) byId(`f-${name}`).addEventListener("change", (event) => choose({ [name]: event.target.value }));
  byId("f-show").addEventListener("change", (event) => choose({ show: event.target.value, sort: bestFirst(event.target.value) }));
  for (const name of ["spread", "names"]) byId(`f-${name}`).addEventListener("change", (event) => choose({ [name]: event.target.checked ? "yes" : "" }));
  byId("f-methods").addEventListener("input", afterTyping((event) => choose({ methods: event.target.value })));
  byId("reset").addEventListener("click", () => choose(USUAL));
  addEventListener("hashchange", () => { readAddress(); draw(); });
}

/* Once nobody has typed for a moment */
function afterTyping(act) {
  let timer = null;
  return (event) => { clearTimeout(timer); timer = setTimeout(act, PAUSE_MS, event); };
}

/* The column that is sorted by stays; of costs and errors the least stand first. */
function bestFirst(show) {
  const column = chosen.sort.replace(/^-/, "");
  return column === "method" || MEASURES.find((measure) => measure.id === show).low ? column : `-${column}`;
}

/* Parts of names or headings between commas; any of them will do. */
function wantedMethod(variant) {
  const parts = chosen.methods.toLowerCase().split(",").map((part) => part.trim()).filter(Boolean);
  const names = [variant.name, variant.heading, variant.method].map((name) => name.toLowerCase());
  return !parts.length || parts.some((part) => names.some((name) => name.includes(part)));
}
