// Sorting: a heading is a button; once ascending, twice descending, thrice as it came. Each body of a
// table is sorted by itself, below the row that names it.
for (const table of document.querySelectorAll("table.sortable")) {
  const bodies = [...table.tBodies];
  const given = bodies.map((body) => [...body.rows].filter((row) => !row.classList.contains("group")));
  const headings = [...table.tHead.rows[0].cells];
  const keyOf = (row, i) => {
    const cell = row.cells[i];
    if (i === 0 && cell.dataset.key === undefined) return cell.firstChild.textContent + cell.textContent;
    return cell.dataset.key;
  };
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    if (a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    return a.localeCompare(b, "en");
  };
  const sort = (i, direction) => {
    bodies.forEach((body, place) => {
      const rows = [...given[place]];
      if (direction) {
        // What was not measured comes last either way.
        const missing = (row) => keyOf(row, i) === undefined;
        rows.sort((a, b) => missing(a) - missing(b)
          || (missing(a) ? 0 : direction * compare(keyOf(a, i), keyOf(b, i))));
      }
      body.append(...rows);
    });
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
  const form = document.querySelector(`form[data-filters="${table.id}"]`);
  if (!form) continue;
  const facets = [...form.querySelectorAll("[data-facet]")];
  const shown = form.querySelector("output");
  const rows = given.flat();
  const filter = () => {
    let count = 0;
    for (const row of rows) {
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
    bodies.forEach((body, place) => { body.hidden = given[place].every((row) => row.hidden); });
    shown.textContent = `${count} of ${rows.length} rows`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();

  // A link leads to its row, also where a filter hides it.
  const reveal = () => {
    const row = document.getElementById(location.hash.slice(1));
    if (row && table.contains(row) && row.hidden) { form.reset(); setTimeout(() => row.scrollIntoView()); }
  };
  addEventListener("hashchange", reveal);
}
