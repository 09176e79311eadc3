const SIGNS = { best: "★", tied: "≈" };
const SPOKEN = { best: ", the best", tied: ", not told apart from the best" };

/* What the matrix shows, for the screen and for downloads alike. */
function matrixOf(view) {
  const measure = measureOf(view);
  const rows = rowsOf(view).filter((row) => wantedMethod(row.variant));
  const columns = matrixColumns(view, measure, rows);
  const sort = columns.some((column) => column.id === chosen.sort.replace(/^-/, "")) ? chosen.sort : columns[1].low ? columns[1].id : `-${columns[1].id}`;
  return { view, measure, columns, sort, blocks: matrixBlocks(view, sorted(rows, columns, sort), sort), rows };
}

function matrixColumns(view, measure, rows) {
  const method = { id: "method", label: "Method", text: true, key: (row) => nameOf(row).toLowerCase(), show: opener };
  const mean = { id: MEAN, label: meanLabel(view), low: measure.low, ...cellColumn(view, measure, MEAN, (row) => row.mean, -1) };
  const datasets = view.datasets.map((name, at) => ({ id: name, label: name, low: measure.low, ...cellColumn(view, measure, name, (row) => row.cells[at], at) }));
  const missing = { id: "missing", label: "missing", title: "datasets without a result", low: true, key: (row) => row.missing, show: (row) => String(row.missing), plain: (row) => row.missing };
  return [method, ...(hasMean(view) ? [mean] : []), ...datasets, ...(rows.some((row) => row.missing) ? [missing] : [])];
}

function cellColumn(view, measure, dataset, result, place) {
  const parts = (row) => cellParts(view, measure, row, result(row), place);
  return {
    parts, dataset,
    key: (row) => result(row)?.[measure.column] ?? null,
    show: (row) => shownParts(parts(row)),
    click: (row) => dataset === MEAN ? openRow(row) : result(row) && openCell(row, dataset),
  };
}

/* A number with what belongs to it: deviation, how many datasets, fewer seeds than the rest of the row, mark. */
function cellParts(view, measure, row, result, place) {
  const value = result?.[measure.column] ?? null;
  if (value === null) return { text: "–" };
  const accuracy = measure.id === "accuracy", isMean = place === -1;
  const most = Math.max(...row.cells.map((cell) => cell?.seeds || 0));
  return {
    text: measure.text(value),
    spread: accuracy && (isMean || chosen.spread) ? (typeof result.std === "number" ? percent(result.std) : "") : null,
    of: isMean && row.have < view.averaged.length ? `${row.have} of ${view.averaged.length}` : null,
    fewer: result.seeds < most,
    mark: accuracy ? row.markOf(place) : null,
  };
}

function shownParts({ text, spread, of, fewer, mark }) {
  return [
    of ? h("span", { class: "spread" }, `(${of}) `) : null, mark === "best" ? h("b", {}, text) : text, shownSpread(spread),
    h("span", { class: "marks" }, mark ? h("span", { class: "star", "aria-hidden": "true" }, SIGNS[mark]) : null, fewer ? "†" : null),
    mark ? unseen(SPOKEN[mark]) : null,
  ];
}

/* As wide where there is none, so that digits stand below each other */
function shownSpread(spread) {
  return typeof spread === "string" ? h("span", { class: "spread deviation" }, spread && ` ± ${spread}`) : null;
}

/* By the mean, rows of other coverage stand apart; what is not ranked always does. */
function matrixBlocks(view, rows, sort) {
  const ranked = rows.filter((row) => !row.variant.bar);
  const partial = (row) => sort.endsWith(MEAN) && row.have < view.averaged.length;
  return [
    { rows: ranked.filter((row) => !partial(row)) },
    { rows: ranked.filter(partial), apart: true, title: "Fewer datasets: the mean is over those that are there, and is not to be compared with the means above" },
    { rows: rows.filter((row) => row.variant.bar), apart: true, title: "Not ranked: these saw more than the others" },
  ];
}

function drawMatrix(view) {
  const matrix = matrixOf(view);
  document.querySelector("main").classList.toggle("long", chosen.names !== "");
  byId("matrix-title").textContent = `${matrix.measure.label}, ${view.shots}-shot`;
  byId("matrix").caption.textContent = captionOf(matrix);
  drawTable(byId("matrix"), matrix.columns, matrix.blocks, matrix.sort, (sort) => choose({ sort }));
  byId("status").textContent = statusOf(matrix);
  byId("partial").hidden = isWhole(view) || !hasMean(view);
  byId("partial").textContent = partialNote(view);
}

function captionOf({ measure, view }) {
  return `${measure.label}, ${view.shots}-shot, ${describe(view)}`;
}

const describe = (view) => `${view.facets.task}, suite ${view.facets.suite}, ${view.facets.backbone} in ${view.facets.precision}, ${view.protocol}`;

function statusOf({ rows, view }) {
  if (!rows.length) return "No method fits these choices.";
  const missing = total(rows.map((row) => row.missing));
  const cells = rows.length * view.datasets.length;
  return `${plural(rows.length, "method")}, ${plural(view.datasets.length, "dataset")}, ${missing ? `${missing} of ${cells} cells missing` : "no cell missing"}.`;
}

function partialNote(view) {
  const [have, want] = [view.averaged.length, view.setting.members.length];
  return `Means of ${have} of ${want} datasets: the records hold only ${view.averaged.join(", ")} of suite ${view.facets.suite}. No mean of all ${want} can be compared with them.`;
}
