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
for (const th of all("thead th:not(.first th)")) {
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

// A verdict that is shown or hidden concerns the folded claims as well.
for (const box of all(".count input"))
  box.onchange = () => {
    for (const rest of all(".rest")) rest.open = true;
  };

// The target of a link is shown even if its verdict is not; some browsers leave unfolding to scripts.
function reveal() {
  const target = document.getElementById(location.hash.slice(1));
  const verdict = target?.closest("[data-verdict]")?.dataset.verdict;
  const hidden = all(".count input:not(:checked)").filter((box) => box.value === verdict);
  const folded = all("details:not([open])").filter((part) => part !== target && part.contains(target));
  for (const box of hidden) box.checked = true;
  for (const part of folded) part.open = true;
  if (hidden.length || folded.length) target.scrollIntoView();
}
addEventListener("hashchange", reveal);
reveal();
