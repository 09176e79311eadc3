/* What a cell of the matrix can show; `low` where less is better */
const MEASURES = [
  { id: "accuracy", label: "Accuracy in %", column: "mean", text: percent },
  { id: "per-class", label: "Mean per-class accuracy in %", column: "per_class", text: percent },
  { id: "ece", label: "Calibration error (ECE) in %", column: "ece", text: percent, low: true },
  { id: "covered", label: "Accuracy in % on the surest 80 %", column: "covered", text: percent },
  { id: "train", label: "Seconds of training", column: "train_s", text: seconds, low: true },
  { id: "predict", label: "Seconds of prediction", column: "predict_s", text: seconds, low: true },
  { id: "encode", label: "Seconds of encoding", column: "encode_s", text: seconds, low: true },
  { id: "memory", label: "Peak memory in MiB", column: "peak_mb", text: whole, low: true },
  { id: "trainable", label: "Trained parameters", column: "trainable", text: many, low: true },
];
const cellPlaces = new Map(); // setting -> "variant dataset shots" -> place in its columns

const measuresOf = (view) => MEASURES.filter((measure) => view.rows[measure.column] || view.setting.cells[measure.column]);
const measureOf = (view) => measuresOf(view).find((measure) => measure.id === chosen.show) || MEASURES[0];

/* One dataset has no mean. */
const hasMean = (view) => view.averaged.length > 0;
const isWhole = (view) => view.averaged.length === view.setting.members.length;

function meanLabel(view) {
  const [have, want] = [view.averaged.length, view.setting.members.length];
  return isWhole(view) ? `mean of ${want}` : `mean of ${have} of ${want}`;
}

/* The rows of a view: of each the mean, and a result or nothing for every dataset that is shown. */
function rowsOf(view) {
  const marks = new Map([["best", view.best], ["tied", view.tied]].flatMap(([mark, places]) => places.map((place) => [place.join(" "), mark])));
  return view.rows.variant.map((number, at) => {
    const mean = resultAt(view.rows, at);
    const cells = view.datasets.map((name) => cellOf(view.setting, number, name, mean.shots));
    const markOf = (column) => marks.get(`${at} ${column}`);
    return { number, variant: all.variants[number], shots: mean.shots, have: mean.have, mean, cells, markOf, missing: cells.filter((cell) => !cell).length };
  });
}

function cellOf(setting, number, dataset, shots) {
  if (!cellPlaces.has(setting)) {
    const { variant, dataset: place, shots: at } = setting.cells;
    cellPlaces.set(setting, new Map(variant.map((one, index) => [`${one} ${place[index]} ${at[index]}`, index])));
  }
  const index = cellPlaces.get(setting).get(`${number} ${setting.datasets.indexOf(dataset)} ${shots}`);
  return index === undefined ? null : resultAt(setting.cells, index);
}

/* One row of columns as an object */
function resultAt(columns, index) {
  return Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[index]]));
}

/* The result of a row on one dataset or on the mean; a mean over fewer datasets than others have is none to compare. */
function resultOf(view, row, dataset) {
  if (dataset !== MEAN) return row.cells[view.datasets.indexOf(dataset)];
  return row.have === view.averaged.length ? row.mean : null;
}
