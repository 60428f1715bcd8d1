"use strict";
// What the page does beyond showing: theme, sorting and filtering the table, large pictures.

const report = JSON.parse(document.getElementById("report-data").textContent);
const byId = (id) => document.getElementById(id);

/* Theme: the system's choice until the button is used */

const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
let chosenTheme = null;

function applyTheme() {
  const dark = chosenTheme ? chosenTheme === "dark" : systemIsDark.matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  byId("theme").textContent = dark ? "Light" : "Dark";
}

systemIsDark.addEventListener("change", applyTheme);
byId("theme").addEventListener("click", () => {
  chosenTheme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  applyTheme();
});
applyTheme();

/* Table of cases: sorted by its headers, filtered by text and status */

const table = byId("table");
const cases = [...table.tBodies]; // each with a row of figures and, if need be, one of notes

function sortBy(header) {
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.querySelectorAll("[aria-sort]")) {
    other.setAttribute("aria-sort", "none");
  }
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const isNumber = header.dataset.type === "number";
  const key = (one) => {
    const value = one.rows[0].cells[header.cellIndex].dataset.value;
    return isNumber ? (value === "" ? NaN : Number(value)) : value;
  };
  const compare = (a, b) =>
    isNumber ? a - b : a.localeCompare(b, undefined, { numeric: true, sensitivity: "base" });
  cases.sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // none: last
    return descending ? compare(b, a) : compare(a, b);
  });
  table.append(...cases);
}

for (const header of table.tHead.querySelectorAll("[aria-sort]")) {
  header.querySelector("button").addEventListener("click", () => sortBy(header));
}

function filter() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const status = byId("status").value;
  let shown = 0;
  for (const one of cases) {
    const text = one.textContent.toLowerCase();
    one.hidden =
      !words.every((word) => text.includes(word)) ||
      (status !== "all" && one.dataset.status !== status);
    shown += !one.hidden;
    const figure = byId(`picture-${one.dataset.case}`);
    if (figure) figure.hidden = one.hidden;
  }
  const all = `${cases.length} case${cases.length === 1 ? "" : "s"}`;
  byId("count").textContent = shown === cases.length ? all : `${shown} of ${all}`;
  byId("nothing").hidden = shown > 0;
}

byId("search").addEventListener("input", filter);
byId("status").addEventListener("change", filter);
filter();

/* Pictures: one after the other in full width, or side by side */

for (const button of document.querySelectorAll(".enlarge")) {
  button.addEventListener("click", () => {
    const large = button.closest("figure").classList.toggle("large");
    button.setAttribute("aria-expanded", String(large));
  });
}
