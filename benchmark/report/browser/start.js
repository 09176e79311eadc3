/* Everything that depends on what is chosen */
function draw() {
  notHere = [];
  const view = chosenView();
  if (![...view.datasets, ...(hasMean(view) ? [MEAN] : [])].includes(chosen.dataset)) chosen.dataset = hasMean(view) ? MEAN : view.datasets[0];
  chosen.show = measureOf(view).id;
  writeAddress();
  drawFields(view);
  byId("not-here").textContent = notHere.length ? `Not among these records: ${notHere.join(", ")}. Shown is what comes nearest.` : "";
  drawMatrix(view);
  drawRanking(view);
  drawRecords(view);
  drawCurves(view); // last, since it asks for its width
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
    drawCurves(chosenView());
  };
}

/* data.js calls this. */
function results(content) {
  all = content;
  gatherViews();
  if (!views.length) return byId("status").append("There are no records to show.");
  readAddress();
  listenToFields();
  for (const id of ["filters", "versus"]) byId(id).addEventListener("submit", (event) => event.preventDefault());
  byId("csv").addEventListener("click", () => download(matrixCsv(matrixOf(chosenView())), ".csv"));
  byId("latex").addEventListener("click", () => download(matrixLatex(matrixOf(chosenView())), ".tex"));
  byId("more-curves").addEventListener("click", () => { allCurves = !allCurves; drawCurves(chosenView()); });
  byId("records").addEventListener("toggle", () => drawRecords(chosenView()));
  byId("theme").addEventListener("click", toggleTheme);
  if (matchMedia("(prefers-color-scheme: dark)").matches) byId("theme").textContent = "Light";
  draw();
  new ResizeObserver(widened(byId("curves"))).observe(byId("curves"));
  offerImages();
}
