/* A table sorted by its headings. A column: {id, label, text, key(row), show(row)}; `key` gives a number, a text, or
   null where there is nothing, which stands last in either order. A block: {title, rows}; its title is a row. */
function drawTable(table, columns, blocks, sort, onSort) {
  const focused = table.tHead.contains(document.activeElement) ? document.activeElement.dataset.column : null;
  table.tHead.replaceChildren(h("tr", {}, columns.map((column) => heading(column, sort, onSort))));
  for (const body of [...table.tBodies]) body.remove();
  table.append(...blocks.filter((block) => block.rows.length).map((block) => blockBody(block, columns)));
  if (focused) table.tHead.querySelector(`[data-column="${CSS.escape(focused)}"]`)?.focus();
}

function heading(column, sort, onSort) {
  const direction = sort === column.id ? "ascending" : sort === `-${column.id}` ? "descending" : "none";
  const other = sort === column.id || (sort !== `-${column.id}` && !column.text && !column.low) ? `-${column.id}` : column.id;
  const label = column.label.split("_").flatMap((part, at) => (at ? ["_", h("wbr"), part] : [part]));
  return h("th", { scope: "col", "aria-sort": direction, class: classOf(column), title: column.title },
    button(label, () => onSort(other), { "data-column": column.id }));
}

function blockBody(block, columns) {
  const rows = block.rows.map((row) => h("tr", { class: block.apart ? "apart" : null }, columns.map((column) => {
    const first = column.id === "method";
    return h(first ? "th" : "td", { scope: first ? "row" : null, class: classOf(column), "data-label": column.id, click: column.click ? () => column.click(row) : null }, column.show(row));
  })));
  const title = block.title ? [h("tr", { class: "block" }, h("th", { colspan: columns.length, scope: "rowgroup" }, h("span", {}, block.title)))] : [];
  return h("tbody", {}, title, rows);
}

const classOf = (column) => [column.text ? "text" : "", column.id === "method" || column.id === "mean" ? column.id : "", column.id === "accuracy" ? "mean" : ""].join(" ").trim() || null;

function sorted(rows, columns, sort) {
  const column = columns.find((one) => one.id === sort.replace(/^-/, "")) || columns[0];
  const sign = sort.startsWith("-") ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [x, y] = [column.key(a), column.key(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return (x < y ? -1 : x > y ? 1 : 0) * sign;
  });
}

/* The name of a method, short unless the long form is asked for; it opens what is known of the row. */
function nameOf(row) {
  return chosen.names ? row.variant.heading : row.variant.name;
}

function opener(row) {
  return button(nameOf(row), () => openRow(row), { class: "open", title: row.variant.heading });
}
