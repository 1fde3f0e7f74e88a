// Tables are sorted by a click on a heading, long ones filtered; figures are enlarged. Without script the page is whole.
"use strict";
const collator = new Intl.Collator("en", { numeric: true });
const LONG = 20; // rows
const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const PREFIXES = { n: 1e-9, µ: 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
const NUMBER = /^([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)(?: × 10(⁻?)([⁰¹²³⁴⁵⁶⁷⁸⁹]+))?(?: ([nµmkMGT])(?:s|B|B\/s|FLOP\/s)(?![\w/]))?/;

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// The number at the beginning of a cell, with its power of ten and its unit; no number if it begins with a word.
function numberOf(words) {
  if (words === "∞") return Infinity;
  const [, digits, sign, raised, prefix] = NUMBER.exec(words.replaceAll(",", "")) ?? [];
  const power = [...(raised ?? "⁰")].map((digit) => RAISED.indexOf(digit)).join("");
  return Number(digits) * 10 ** Number(`${sign ? "-" : ""}${power}`) * (PREFIXES[prefix] ?? 1);
}

function sortBy(table, column, heading) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  const text = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent.trim();
  const missing = (words) => words === "" || words === "–";
  const compare = (a, b) => {
    const [left, right] = [text(a), text(b)];
    if (missing(left) || missing(right)) return missing(left) - missing(right); // what has no value comes last
    const order = numberOf(left) - numberOf(right) || collator.compare(left, right); // words, and numbers alike, by the words
    return down ? -order : order;
  };
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
}

function makeFilter(table, form) {
  const rows = [...table.tBodies[0].rows];
  const words = new Map(rows.map((row) => [row, `${row.title} ${row.textContent}`.toLowerCase()]));
  const status = form.querySelector("[role=status]");
  function filter() {
    const wanted = [...form.querySelectorAll("[data-filter]")].map((field) => [field.dataset.filter, field.value]);
    for (const row of rows) {
      row.hidden = !wanted.every(([name, value]) => {
        if (!value) return true;
        if (name !== "text") return row.dataset[name] === value;
        return value.toLowerCase().split(/\s+/).every((word) => words.get(row).includes(word));
      });
    }
    status.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  }
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}

function searchForm() {
  const field = element("input", { type: "search", autocomplete: "off" });
  field.dataset.filter = "text";
  const status = element("p", {});
  status.setAttribute("role", "status");
  return element("form", { className: "filters" }, element("label", {}, "Search ", field), status);
}

for (const table of document.querySelectorAll("main table")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = element("button", { type: "button" }, ...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sortBy(table, column, heading));
  });
  let form = table.id === "cases" ? document.getElementById("cases-filter") : null;
  if (!form && table.tBodies[0].rows.length >= LONG) {
    form = searchForm();
    table.parentElement.before(form);
  }
  if (form) makeFilter(table, form);
}

const dialog = document.getElementById("enlarged");
const picture = dialog.querySelector("img");
const size = dialog.querySelector("[data-does=size]");

function resize(large) {
  picture.classList.toggle("large", large);
  size.setAttribute("aria-pressed", String(large));
}

for (const button of document.querySelectorAll("button.zoom")) {
  button.addEventListener("click", () => {
    const source = button.querySelector("img");
    [picture.src, picture.alt] = [source.src, source.alt];
    resize(false);
    dialog.showModal();
  });
}
size.addEventListener("click", () => resize(!picture.classList.contains("large")));
dialog.querySelector("[data-does=close]").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

// The contents are a column beside the text where there is room, else a list that is closed until it is wanted.
document.querySelector("nav details").open = matchMedia("(min-width: 72rem)").matches;

// A page on paper has nothing to click: what is folded is printed.
addEventListener("beforeprint", () => document.querySelectorAll("main details").forEach((fold) => (fold.open = true)));
