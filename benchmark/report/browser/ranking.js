/* All numbers of one dataset, or of the mean, in a line per method. */
function drawRanking(view) {
  const rows = rowsOf(view).filter((row) => wantedMethod(row.variant) && resultOf(view, row, chosen.dataset));
  const columns = rankingColumns(view, rows);
  const blocks = [false, true].map((apart) => ({ apart, title: apart ? "Not ranked" : "", rows: sorted(rows.filter((row) => Boolean(row.variant.bar) === apart), columns, chosen.list) }));
  drawTable(byId("board"), columns, blocks, chosen.list, (list) => choose({ list }));
  const hidden = rowsOf(view).filter((row) => wantedMethod(row.variant)).length - rows.length;
  const what = chosen.dataset === MEAN ? meanLabel(view) : chosen.dataset;
  byId("board").caption.textContent = `${what}, ${view.shots}-shot, ${describe(view)}`;
  byId("board-status").textContent = `${what}, ${view.shots}-shot: ${plural(rows.length, "method")}${hidden ? `; ${plural(hidden, "method")} without a result on the same datasets left out` : ""}.`;
}

function rankingColumns(view, rows) {
  const of = (row) => resultOf(view, row, chosen.dataset);
  const place = chosen.dataset === MEAN ? -1 : view.datasets.indexOf(chosen.dataset);
  const measured = (id, label, column, text, low) => ({ id, label, low, key: (row) => of(row)[column] ?? null, show: (row) => (typeof of(row)[column] === "number" ? text(of(row)[column]) : "–") });
  const accuracy = { ...measured("accuracy", "accuracy", "mean", percent), show: (row) => shownParts({ text: percent(of(row).mean), spread: typeof of(row).std === "number" ? percent(of(row).std) : "", mark: row.markOf(place) }) };
  const others = [
    measured("interval", "95\u00a0%\u00a0±", "half", percent, true), measured("seeds", "seeds", "seeds", (count) => (count ? String(count) : "–")),
    measured("per-class", "per class", "per_class", percent), measured("ece", "ECE", "ece", percent, true), measured("covered", "at 80 %", "covered", percent),
    measured("train", "train s", "train_s", seconds, true), measured("predict", "predict s", "predict_s", seconds, true),
    measured("memory", "peak MiB", "peak_mb", whole, true), measured("trainable", "trained", "trainable", many, true),
  ];
  const method = { id: "method", label: "Method", text: true, key: (row) => nameOf(row).toLowerCase(), show: opener };
  return [method, accuracy, ...others.filter((column) => rows.some((row) => column.key(row) !== null))];
}
