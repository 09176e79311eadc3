/* Files of exactly what the matrix shows: its rows, order, columns and digits. */
function matrixCsv(matrix) {
  const heads = matrix.columns.flatMap((column) => [column.label, ...extraParts(matrix, column).map(([part]) => `${column.label} ${part}`)]);
  const lines = [[...heads, "block", "best", "tied"], ...rowsInOrder(matrix).map(([row, block]) => csvRow(matrix, row, block))];
  return lines.map((line) => line.map(csvField).join(",") + "\n").join("");
}

/* Beside a number stand columns for what any row of its column has. */
function extraParts(matrix, column) {
  const kinds = [["deviation", "spread"], ["datasets", "of"]];
  return column.parts ? kinds.filter(([, part]) => matrix.rows.some((row) => column.parts(row)[part])) : [];
}

const rowsInOrder = (matrix) => matrix.blocks.flatMap((block) => block.rows.map((row) => [row, block.title || "ranked"]));

function csvRow(matrix, row, block) {
  const fields = matrix.columns.flatMap((column) => [plainText(column, row), ...extraParts(matrix, column).map(([, part]) => column.parts(row)[part] || "")]);
  const marked = (mark) => matrix.columns.filter((column) => column.parts?.(row).mark === mark).map((column) => column.label).join("; ");
  return [...fields, block.split(":")[0].toLowerCase(), marked("best"), marked("tied")];
}

function plainText(column, row) {
  if (!column.parts) return column.id === "method" ? nameOf(row) : String(column.plain(row));
  const text = column.parts(row).text;
  return text === "–" ? "" : text;
}

function csvField(text) {
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function matrixLatex(matrix) {
  const row = (cells) => `${cells.join(" & ")} \\\\`;
  const body = matrix.blocks.filter((block) => block.rows.length).flatMap((block) => [
    "\\midrule",
    ...(block.title ? [`\\multicolumn{${matrix.columns.length}}{l}{${escaped(block.title)}} \\\\`] : []),
    ...block.rows.map((one) => row(matrix.columns.map((column) => latexCell(column, one)))),
  ]);
  return [
    `% ${captionOf(matrix)}`, "% bold: the best of its column; italic: not told apart from it; the paper needs \\usepackage{booktabs}",
    `\\begin{tabular}{l${"r".repeat(matrix.columns.length - 1)}}`, "\\toprule", row(matrix.columns.map((column) => escaped(column.label))), ...body, "\\bottomrule", "\\end{tabular}", "",
  ].join("\n");
}

function latexCell(column, row) {
  if (!column.parts) return escaped(plainText(column, row));
  const { text, spread, of, fewer, mark } = column.parts(row);
  const shown = escaped(text) + (spread ? `\\,$\\pm$\\,${spread}` : "") + (fewer ? "$^\\dagger$" : "") + (of ? ` (${of})` : "");
  return mark === "best" ? `\\textbf{${shown}}` : mark === "tied" ? `\\textit{${shown}}` : shown;
}

const LATEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "–": "--" };

function escaped(text) {
  return text.replace(/[\\~^–]|[&%$#_{}]/g, (character) => LATEX[character] || `\\${character}`);
}

function download(text, ending) {
  const { suite, backbone, shots } = chosen;
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" })), download: [suite, backbone, `${shots}-shot`, chosen.show].join("-").replace(/[^\w.-]+/g, "-") + ending });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
