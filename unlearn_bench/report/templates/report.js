"use strict";
// Everything is on the page without this script; it sorts, filters, chooses and switches.

for (const part of document.querySelectorAll(".scripted")) part.hidden = false;

// Theme: what the system says, until the reader says otherwise.
const theme = document.getElementById("theme");
const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme || (systemDark.matches ? "dark" : "light")) === "dark";
const nameTheme = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
theme.hidden = false;
theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
systemDark.addEventListener("change", nameTheme);
nameTheme();

// Another method between the original and retraining.
for (const choice of document.querySelectorAll("select[data-choose]")) {
  const table = document.getElementById(choice.dataset.choose);
  const choose = () => {
    [...table.tBodies].forEach((body, i) => { body.hidden = i !== choice.selectedIndex; });
    table.querySelector(".chosen").textContent = choice.selectedOptions[0].textContent;
  };
  choice.addEventListener("change", choose);
  choose();  // a reload may have kept the choice
}

// Sorting: a heading is a button; once ascending, twice descending, thrice as it came.
const table = document.getElementById("methods");
if (table) {
  const body = table.tBodies[0];
  const given = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  const keyOf = (row, i) => {
    const cell = row.cells[i];
    if (i === 0) return row.cells[0].firstChild.textContent + row.cells[0].textContent;
    return cell.dataset.key;
  };
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    if (a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    return a.localeCompare(b, "en");
  };
  const sort = (i, direction) => {
    const rows = [...given];
    if (direction) {
      // What was not measured comes last either way.
      const missing = (row) => keyOf(row, i) === undefined;
      rows.sort((a, b) => missing(a) - missing(b)
        || (missing(a) ? 0 : direction * compare(keyOf(a, i), keyOf(b, i))));
    }
    body.append(...rows);
    headings.forEach((heading, j) => {
      const now = j === i ? direction : 0;
      heading.setAttribute("aria-sort", now ? (now > 0 ? "ascending" : "descending") : "none");
    });
  };
  headings.forEach((heading, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      sort(i, before === "none" ? 1 : before === "ascending" ? -1 : 0);
    });
  });

  // Filters: a row stays if it agrees with all of them.
  const form = document.querySelector(".filters");
  const facets = [...form.querySelectorAll("[data-facet]")];
  const shown = document.getElementById("shown");
  const filter = () => {
    let count = 0;
    for (const row of given) {
      const stays = facets.every((facet) => {
        if (facet.disabled || facet.value === "") return true;
        if (facet.dataset.facet === "name") {
          return row.cells[0].textContent.toLowerCase().includes(facet.value.toLowerCase());
        }
        return row.dataset[facet.dataset.facet] === facet.value;
      });
      row.hidden = !stays;
      count += stays;
    }
    shown.textContent = `${count} of ${given.length} rows`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();

  // A verdict leads to its row, also where a filter hides it.
  const reveal = () => {
    const row = document.getElementById(location.hash.slice(1));
    if (row && row.hidden) { form.reset(); setTimeout(() => row.scrollIntoView()); }
  };
  addEventListener("hashchange", reveal);
}

// Paper has no buttons: print what is folded away, but for the table that no paper is wide enough for.
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not(.everything)")) part.open = true;
});
