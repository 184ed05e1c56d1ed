"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);

// Sorting: a button in each header. Names begin at A, numbers at the highest, a second click turns
// the order round; missing values stay last.
function keyOf(cell) {
  const line = one(".order", cell.closest("section"))?.selectedIndex ?? 0;
  const text = (cell.children[line] ?? cell).textContent.trim();
  if (["", "-", "-/-", "missing", "failed"].includes(text)) return null;
  const number = parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(number) ? text : number;
}
for (const th of all("thead th")) {
  const table = th.closest("table");
  const button = document.createElement("button");
  button.append(...th.childNodes);
  th.append(button);
  button.onclick = () => {
    const rows = all("tbody tr", table).map((row) => [keyOf(row.cells[th.cellIndex]), row]);
    const areNumbers = rows.some(([key]) => typeof key === "number");
    const before = th.ariaSort ?? (areNumbers ? "ascending" : "descending");
    const sign = before === "descending" ? 1 : -1;
    rows.sort(([x], [y]) => {
      if (x === null || y === null) return (x === null) - (y === null);
      const areBoth = typeof x === "number" && typeof y === "number";
      return sign * (areBoth ? x - y : String(x).localeCompare(y));
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
    for (const other of all("[aria-sort]", table)) other.ariaSort = null;
    th.ariaSort = sign > 0 ? "ascending" : "descending";
  };
}

for (const search of all("input[type=search]"))
  search.oninput = () => {
    const wanted = search.value.trim().toLowerCase();
    for (const row of all("tbody tr", search.closest("section"))) {
      const [method, , pipeline] = row.cells;
      row.hidden = !`${method.textContent} ${pipeline.textContent}`.toLowerCase().includes(wanted);
    }
  };
