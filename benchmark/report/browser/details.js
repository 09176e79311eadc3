/* The dialog: what is known of a row, and the records behind a number */
function showDialog(title, ...content) {
  byId("r-title").textContent = title;
  byId("r-body").replaceChildren(...content.flat());
  if (!byId("record").open) byId("record").showModal();
}

function openRow(row) {
  const view = chosenView();
  const facts = {
    "in full": row.variant.heading, "method": `${row.variant.method}, version ${row.variant.version}`,
    "learned from": row.variant.protocol, ...(row.variant.prior ? { "prior": row.variant.prior } : {}),
    ...(row.variant.bar ? { "not ranked": row.variant.bar } : {}), "parameters": paramsOf(row.variant),
  };
  const entry = (name, at) => h("li", {}, row.cells[at] ? button(name, () => openCell(row, name), { class: "open" }) : name, ` ${scoreText(row.cells[at])}`);
  showDialog(`${row.variant.name}, ${row.shots}-shot`, factList(facts), h("h3", {}, "Accuracy in %, and the records behind it"),
    row.have ? h("p", {}, `mean of ${row.have} of ${view.setting.members.length}: ${scoreText(row.mean)}`) : [],
    h("ul", { class: "members" }, view.datasets.map(entry)));
}

function openCell(row, dataset) {
  if (row.variant.parts) showParts(row, dataset);
  else openRecords(row, dataset);
}

const scoreText = (result) => (result ? percent(result.mean) + (typeof result.std === "number" ? ` ± ${percent(result.std)}` : "") : "missing");
const paramsOf = (variant) => Object.entries(variant.params).map(([name, value]) => `${name}=${value}`).join(" ") || "none";
const factList = (facts) => h("dl", {}, Object.entries(facts).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]));

/* H is no record's: the numbers of the two halves that it is made of */
function showParts(row, dataset) {
  const halves = row.variant.parts.map((number) => ({ number, variant: all.variants[number], shots: row.shots, setting: all.settings.find((setting) => setting.cells.variant.includes(number)) }));
  const entry = (half) => h("li", {}, button(half.setting.classes, () => openRecords(half, dataset), { class: "open" }), ` ${scoreText(cellOf(half.setting, half.number, dataset, half.shots))}`);
  showDialog(`${row.variant.name}, ${dataset}, ${row.shots}-shot`, h("p", {}, `H ${scoreText(row.cells[chosenView().datasets.indexOf(dataset)])}, the harmonic mean of`), h("ul", {}, halves.map(entry)));
}

function openRecords(row, dataset, key = null) {
  showDialog(`${row.variant.name}, ${dataset}, ${row.shots}-shot`, h("p", {}, "Loading …"));
  fetchScript(`records/${row.number}-${dataset}.js`, (content) => showRecords(row, dataset, content, key));
}

function showRecords(row, dataset, content, key) {
  const records = content.records.filter((record) => record.shots === row.shots);
  const setting = row.setting || chosenView().setting;
  const names = all.classes[dataset + (setting.classes === "all" ? "" : `/${setting.classes}`)];
  const place = h("div");
  const show = (record) => place.replaceChildren(...recordView(row.variant, names, content, record));
  const select = h("select", { id: "r-seed", change: () => show(records[select.selectedIndex]) },
    records.map((record) => h("option", { selected: record.key === key }, record.shots ? `seed ${record.seed}` : "no seed", `: ${percent(accuracyOf(content, record))} %`)));
  byId("r-body").replaceChildren(h("p", {}, row.variant.heading), h("label", {}, "Record ", select), place);
  show(records[select.selectedIndex]);
}

const accuracyOf = (content, record) => total(counts(record.correct)) / total(counts(content.totals));

function recordView(variant, names, content, record) {
  const costs = Object.fromEntries(content.costs.map((name, at) => [name, record.costs[at]]).filter(([, value]) => value !== null));
  const facts = {
    "key": record.key, "right": `${total(counts(record.correct))} of ${total(counts(content.totals))} test images`,
    "learned from": variant.protocol, "seen by the backbone": content.seen, ...record.calibration, ...costs, ...record.notes, ...record.made, "parameters": paramsOf(variant),
  };
  const command = content.run.replace(/--shots \d+ --seed \d+/, `--shots ${record.shots} --seed ${record.seed}`);
  return [
    h("h3", {}, "Again, on your machine"), h("pre", {}, `${command}\n# compare with these counts, where the record is at hand:\npython -m benchmark replay ${record.key}`),
    h("h3", {}, "Record"), factList(facts),
    h("h3", {}, "Accuracy per class, lowest first"), classBars(names, content, record),
    ...confusions(names, record),
  ];
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
  const heads = [["text", "Truth"], ["text", "Predicted"], [null, "Images"]].map(([kind, label]) => h("th", { scope: "col", class: kind }, label));
  return [h("h3", {}, "Commonest confusions"), h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows))];
}
