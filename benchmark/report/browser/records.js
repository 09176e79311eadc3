const PAGE_ROWS = 100;
let recordSort = "-accuracy";
let firstRecord = 0;

/* The list of the records behind the view; they are loaded when it is opened. */
function drawRecords(view) {
  const box = byId("records");
  box.hidden = view.setting.classes === "H"; // made of two settings' records
  firstRecord = 0;
  if (box.open && !box.hidden) fetchScript(`lists/${view.place}.js`, (list) => showPage(view, list));
}

function recordsOf(view, list) {
  const shots = new Map(view.rows.variant.map((number, at) => [number, view.rows.shots[at]]));
  const wanted = new Set([...shots.keys()].filter((number) => wantedMethod(all.variants[number])));
  const places = list.variant.map((_, at) => at).filter((at) => wanted.has(list.variant[at]) && list.shots[at] === shots.get(list.variant[at]));
  const ofDataset = chosen.dataset === MEAN ? places : places.filter((at) => view.setting.datasets[list.dataset[at]] === chosen.dataset);
  return ofDataset.map((at) => ({ ...resultAt(list, at), number: list.variant[at], variant: all.variants[list.variant[at]], name: view.setting.datasets[list.dataset[at]] }));
}

function showPage(view, list) {
  const columns = [
    { id: "method", label: "Method", text: true, key: (row) => nameOf(row).toLowerCase(), show: (row) => button(nameOf(row), () => openRecords(row, row.name, row.key), { class: "open", title: row.variant.heading }) },
    { id: "accuracy", label: "accuracy", key: (row) => row.accuracy, show: (row) => percent(row.accuracy, 2) },
    { id: "dataset", label: "dataset", text: true, key: (row) => row.name, show: (row) => row.name },
    { id: "shots", label: "shots", key: (row) => row.shots, show: (row) => String(row.shots) },
    { id: "seed", label: "seed", key: (row) => row.seed, show: (row) => (row.shots ? String(row.seed) : "–") },
    { id: "key", label: "key", text: true, key: (row) => row.key, show: (row) => h("code", {}, row.key) },
  ];
  const rows = sorted(recordsOf(view, list), columns, recordSort);
  firstRecord = Math.min(firstRecord, Math.max(0, rows.length - 1));
  const shown = rows.slice(firstRecord, firstRecord + PAGE_ROWS);
  drawTable(byId("record-list"), columns, [{ rows: shown }], recordSort, (sort) => { recordSort = sort; firstRecord = 0; showPage(view, list); });
  byId("records-status").textContent = rows.length ? `Records ${firstRecord + 1} to ${firstRecord + shown.length} of ${rows.length}.` : "No record fits these choices.";
  const turn = (id, by, off) => { byId(id).disabled = off; byId(id).onclick = () => { firstRecord += by; showPage(view, list); }; };
  turn("earlier", -PAGE_ROWS, firstRecord === 0);
  turn("later", PAGE_ROWS, firstRecord + PAGE_ROWS >= rows.length);
}
