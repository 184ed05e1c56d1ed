"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (id) => document.getElementById(id);
for (const part of all(".controls[hidden], .compare[hidden]")) part.hidden = false;

// Sorting: a button in each header; names begin at A, numbers at the highest; missing values stay
// last, a third click restores the order.
const compareKeys = (a, b) =>
  typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
function keyOf(cell) {
  const text = "printed" in cell.dataset ? cell.dataset[one("by").value] : cell.textContent.trim();
  const plain = text.replace("−", "-").replaceAll(",", "");
  if (plain === "" || plain === "missing" || plain === "failed" || plain === "–") return null;
  return Number.isNaN(parseFloat(plain)) ? text : parseFloat(plain);
}
function sortTable(table, column, order) {
  const body = table.tBodies[0];
  const rows = all("tr", body);
  rows.forEach((row, place) => (row.dataset.place ??= place));
  const sign = order === "descending" ? -1 : 1;
  rows.sort((a, b) => {
    const places = a.dataset.place - b.dataset.place;
    if (order === "none") return places;
    const [x, y] = [keyOf(a.cells[column]), keyOf(b.cells[column])];
    if (x === null || y === null) return (x === null) - (y === null) || places;
    return sign * compareKeys(x, y) || places;
  });
  body.append(...rows);
  for (const th of all("thead th", table))
    th.setAttribute("aria-sort", th.cellIndex === column ? order : "none");
}
function nextOrder(table, column, order) {
  const keys = all("tr", table.tBodies[0]).map((row) => keyOf(row.cells[column]));
  const named = typeof keys.find((key) => key !== null) === "string";
  const orders = named ? ["none", "ascending", "descending"] : ["none", "descending", "ascending"];
  return orders[(orders.indexOf(order) + 1) % 3];
}
for (const table of all("table.grid, table.sortable")) {
  for (const th of all("thead th", table)) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = th.textContent;
    button.addEventListener("click", () => {
      sortTable(table, th.cellIndex, nextOrder(table, th.cellIndex, th.getAttribute("aria-sort")));
    });
    th.replaceChildren(button);
    th.setAttribute("aria-sort", "none");
  }
}
one("by").addEventListener("change", () => {
  for (const th of all(".grid [aria-sort=ascending], .grid [aria-sort=descending]"))
    sortTable(th.closest("table"), th.cellIndex, th.getAttribute("aria-sort"));
});

// Filters.
function filter() {
  const wanted = one("method").value.trim().toLowerCase();
  const pipeline = one("pipeline").value;
  const measured = one("only-measured").checked;
  for (const row of all(".grid tbody tr"))
    row.hidden =
      !row.dataset.method.includes(wanted) ||
      (pipeline !== "" && row.dataset.pipeline !== pipeline) ||
      (measured && !row.querySelector(".record-link"));
  const rows = all("tbody tr", document.querySelector(".grid"));
  one("shown").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} methods`;
}
one("filters").addEventListener("input", filter);
one("filters").addEventListener("submit", (event) => event.preventDefault());
filter();

// The counts show and hide their claims.
for (const count of all(".count")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...count.childNodes);
  button.setAttribute("aria-pressed", "true");
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", on);
    for (const claim of all(".claim"))
      if (claim.dataset.verdict === count.dataset.verdict) claim.hidden = !on;
  });
  count.append(button);
}

// Tooltips: the titles inside drawings, at once and on focus as well; a drawing's own is its name.
const tip = one("tip");
for (const title of all("svg title")) {
  const part = title.parentNode;
  if (part.localName === "svg") part.setAttribute("aria-label", title.textContent);
  else part.dataset.tip = title.textContent;
  title.remove();
}
let tipOf = null;
function showTip(target) {
  tipOf = target;
  tip.textContent = target.dataset.tip;
  tip.hidden = false;
  const at = target.getBoundingClientRect();
  const left = Math.min(Math.max(at.left + at.width / 2 - tip.offsetWidth / 2, 4), innerWidth - tip.offsetWidth - 4);
  const above = at.top - tip.offsetHeight - 6;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 4 ? above : at.bottom + 6}px`;
}
const tipped = (event) => event.target.closest?.("[data-tip]");
for (const name of ["pointerover", "focusin"])
  document.addEventListener(name, (event) => tipped(event) && showTip(tipped(event)));
for (const name of ["pointerout", "focusout"])
  document.addEventListener(name, (event) => tipped(event) === tipOf && (tip.hidden = true));
document.addEventListener("scroll", () => tip.hidden || showTip(tipOf), true);

// A number's record, over the page.
const dialog = one("record");
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a.record-link");
  if (!link) return;
  const body = one(link.getAttribute("href").slice(1));
  if (!body) return;
  event.preventDefault();
  one("record-title").textContent = body.dataset.title;
  one("record-shown").replaceChildren(...[...body.children].map((child) => child.cloneNode(true)));
  dialog.showModal();
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

// Two images and a divide between them.
for (const look of all(".look")) {
  const images = all(".pictures img", look);
  const names = all(".pictures b", look);
  const [stage, range] = [look.querySelector(".stage"), look.querySelector("input[type=range]")];
  const move = () => stage.style.setProperty("--at", `${range.value}%`);
  const choose = () => {
    for (const [side, image] of [["left", "over"], ["right", "under"]]) {
      const chosen = Number(look.querySelector(`select.${side}`).value);
      stage.querySelector(`.${image}`).src = images[chosen].src;
      stage.querySelector(`.${image}`).alt = images[chosen].alt;
      stage.querySelector(`.tag-${side}`).textContent = names[chosen].textContent;
    }
  };
  const drag = (event) => {
    if (event.type === "pointermove" && event.pointerType !== "mouse" && !event.buttons) return;
    const at = stage.getBoundingClientRect();
    range.value = (100 * (event.clientX - at.left)) / at.width;
    move();
  };
  stage.addEventListener("pointermove", drag);
  stage.addEventListener("pointerdown", drag);
  range.addEventListener("input", move);
  for (const select of all("select", look)) select.addEventListener("change", choose);
  choose();
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
