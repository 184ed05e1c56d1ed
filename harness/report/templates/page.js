"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);
for (const part of all(".controls, .compare")) part.hidden = false;

// Sorting: a button in each header; names begin at A, numbers at the highest; missing values stay
// last, a third click restores the order.
function keyOf(cell) {
  const by = cell.matches(".cell") && one("form", cell.closest("section")).elements.by.value;
  const text = by ? (cell.dataset[by] ?? "") : cell.textContent.trim();
  if (["", "missing", "failed", "–"].includes(text)) return null;
  const number = parseFloat(text.replace("−", "-").replaceAll(",", ""));
  return Number.isNaN(number) ? text : number;
}
function sort(table, column, order) {
  const rows = all("tbody tr", table);
  rows.forEach((row, place) => (row.dataset.place ??= place));
  const sign = order === "descending" ? -1 : 1;
  rows.sort((a, b) => {
    const places = a.dataset.place - b.dataset.place;
    if (order === "none") return places;
    const [x, y] = [a, b].map((row) => keyOf(row.cells[column]));
    if (x === null || y === null) return (x === null) - (y === null) || places;
    const numbers = typeof x === "number" && typeof y === "number";
    return sign * (numbers ? x - y : String(x).localeCompare(y)) || places;
  });
  table.tBodies[0].append(...rows);
  for (const th of all("thead th", table)) th.ariaSort = th.cellIndex === column ? order : "none";
}
for (const th of all("table:is(.grid, .sortable) thead th")) {
  const table = th.closest("table");
  const button = document.createElement("button");
  button.append(...th.childNodes);
  button.onclick = () => {
    const keys = all("tbody tr", table).map((row) => keyOf(row.cells[th.cellIndex]));
    const named = typeof keys.find((key) => key !== null) === "string";
    const orders = ["none", ...(named ? ["ascending", "descending"] : ["descending", "ascending"])];
    sort(table, th.cellIndex, orders[(orders.indexOf(th.ariaSort) + 1) % 3]);
  };
  th.append(button);
  th.ariaSort = "none";
}

// The filters of each table of the paper.
for (const form of all("section > form")) {
  const { method, pipeline, by, measured, shown } = form.elements;
  const section = form.closest("section");
  const rows = all(".grid tbody tr", section);
  const methods = (some) => new Set(some.map((row) => row.dataset.method)).size;
  const filter = () => {
    for (const row of rows)
      row.hidden =
        !row.dataset.method.includes(method.value.trim().toLowerCase()) ||
        ![row.dataset.pipeline, ""].includes(pipeline.value) ||
        (measured.checked && !one(".record-link", row));
    shown.value = `${methods(rows.filter((row) => !row.hidden))} of ${methods(rows)} methods`;
  };
  by.onchange = () => {
    for (const th of all(".grid [aria-sort$=scending]", section))
      sort(th.closest("table"), th.cellIndex, th.ariaSort);
  };
  form.oninput = filter;
  form.onsubmit = (event) => event.preventDefault();
  filter();
}

// Tooltips: the titles inside drawings, at once and on focus as well; a drawing's own is its name.
const tip = one("[role=tooltip]");
for (const title of all("svg title")) {
  const part = title.parentNode;
  if (part.localName === "svg") part.ariaLabel = title.textContent;
  else part.dataset.tip = title.textContent;
  title.remove();
}
let tipOf = null;
function showTip(target) {
  tipOf = target;
  tip.textContent = target.dataset.tip;
  tip.hidden = false;
  const at = target.getBoundingClientRect();
  const left = Math.min(at.left + at.width / 2 - tip.offsetWidth / 2, innerWidth - tip.offsetWidth - 4);
  const above = at.top - tip.offsetHeight - 6;
  tip.style.left = `${Math.max(left, 4)}px`;
  tip.style.top = `${above > 4 ? above : at.bottom + 6}px`;
}
const tipped = (event) => event.target.closest?.("[data-tip]");
for (const name of ["pointerover", "focusin"])
  document.addEventListener(name, (event) => tipped(event) && showTip(tipped(event)));
for (const name of ["pointerout", "focusout"])
  document.addEventListener(name, (event) => tipped(event) === tipOf && (tip.hidden = true));
document.addEventListener("scroll", () => tip.hidden || showTip(tipOf), true);

// A number's record, over the page.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a.record-link");
  const body = link && document.getElementById(link.getAttribute("href").slice(1));
  if (!body) return;
  event.preventDefault();
  one("dialog h2").textContent = body.dataset.title;
  one("dialog .record-body").replaceChildren(...body.cloneNode(true).childNodes);
  one("dialog").showModal();
});

// Two images and a divide between them.
for (const look of all(".look")) {
  const pictures = all(".pictures li", look);
  const [stage, range] = [one(".stage", look), one("input", look)];
  const move = () => stage.style.setProperty("--at", `${range.value}%`);
  const choose = (select) => {
    const chosen = pictures[select.value];
    const { src, alt } = one("img", chosen);
    Object.assign(one(`img.${select.className}`, stage), { src, alt });
    one(`.tag.${select.className}`, stage).textContent = one("b", chosen).textContent;
  };
  stage.onpointerdown = stage.onpointermove = (event) => {
    if (event.type === "pointermove" && event.pointerType !== "mouse" && !event.buttons) return;
    const at = stage.getBoundingClientRect();
    range.value = (100 * (event.clientX - at.left)) / at.width;
    move();
  };
  range.oninput = move;
  for (const select of all("select", look)) {
    select.onchange = () => choose(select);
    choose(select);
  }
  move();
}

// On paper nothing stays folded.
let folded = [];
addEventListener("beforeprint", () => {
  folded = all("details:not([open])");
  for (const part of folded) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of folded) part.open = false;
});
