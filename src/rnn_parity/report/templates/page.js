// Sorting and filtering of the table of cases, and enlarged figures. Without script the page is whole all the same.
"use strict";
const table = document.getElementById("cases");
const body = table.tBodies[0];
const rows = [...body.rows];
const collator = new Intl.Collator("en", { numeric: true });

function sortBy(column, heading) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  const numeric = heading.dataset.sort === "number";
  const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const [left, right] = [key(a), key(b)];
    if (left === "" || right === "") return (left === "") - (right === ""); // what has no value comes last
    const [x, y] = [Number(left), Number(right)];
    const order = numeric && !Number.isNaN(x) && !Number.isNaN(y) ? x - y : collator.compare(left, right);
    return down ? -order : order;
  };
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows.sort(compare));
}

[...table.tHead.rows[0].cells].forEach((heading, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => sortBy(column, heading));
});

const form = document.querySelector("form.filters");
const status = form.querySelector("[role=status]");
const words = new Map(rows.map((row) => [row, `${row.title} ${row.textContent}`.toLowerCase()]));

function filter() {
  const wanted = [...form.querySelectorAll("[data-filter]")].map((field) => [field.dataset.filter, field.value]);
  let shown = 0;
  for (const row of rows) {
    const fits = wanted.every(([name, value]) => {
      if (!value) return true;
      if (name !== "text") return row.dataset[name] === value;
      return value.toLowerCase().split(/\s+/).every((word) => words.get(row).includes(word));
    });
    row.hidden = !fits;
    shown += fits;
  }
  status.textContent = `${shown} of ${rows.length} rows`;
}

form.hidden = false;
form.addEventListener("input", filter);
form.addEventListener("reset", () => setTimeout(filter));
form.addEventListener("submit", (event) => event.preventDefault());
filter();

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
